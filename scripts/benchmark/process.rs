//! What a virtual machine costs the host, from the figures that the kernel keeps of QEMU.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kubby::testing::error::Result;
use kubby::testing::hypervisor::host::meminfo;
use kubby::testing::interrupt;

use crate::sample::{Sample, Unit};

/// How long a node settles before it counts as idle, and how long it is then looked at.
const SETTLE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_secs(20);

/// Ticks a second in `/proc/PID/stat`: the same on every Linux that Rust and Go are built for.
const TICKS: f64 = 100.0;

/// The QEMU process of a domain.
pub struct Qemu(PathBuf);

impl Qemu {
    /// Finds it by the name that libvirt gives the guest.
    pub fn of(domain: &str) -> Option<Self> {
        let name = format!("guest={domain},");
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let mut words = command.split(|byte| *byte == 0);
            let program = words.next().unwrap_or_default();
            if String::from_utf8_lossy(program).contains("qemu")
                && words.any(|word| word.starts_with(name.as_bytes()))
            {
                return Some(Qemu(entry.path()));
            }
        }
        None
    }

    /// CPU time so far in seconds, of all its threads.
    fn cpu(&self) -> Option<f64> {
        let stat = fs::read_to_string(self.0.join("stat")).ok()?;
        let ticks = cpu_ticks(&stat)? as f64;
        Some(ticks / TICKS)
    }

    /// Memory in MiB, shared pages counted in part.
    pub fn memory(&self) -> Option<f64> {
        let text = fs::read_to_string(self.0.join("smaps_rollup")).ok()?;
        Some(meminfo(&text, "Pss")?.0 as f64)
    }

    /// MiB read and written so far: `(through calls, from and to the disk)` each.
    fn io(&self) -> Option<[(&'static str, f64); 4]> {
        let text = fs::read_to_string(self.0.join("io")).ok()?;
        let get = |name: &str| counter(&text, name).map(|bytes| bytes as f64 / 1048576.0);
        Some([
            ("read by the start", get("rchar")?),
            ("written by the start", get("wchar")?),
            ("read from disk", get("read_bytes")?),
            ("written to disk", get("write_bytes")?),
        ])
    }
}

/// What a start cost until now: CPU time, reads and writes.
pub fn start_cost(domain: &str, sample: &mut Sample) {
    let Some(qemu) = Qemu::of(domain) else { return };
    if let Some(cpu) = qemu.cpu() {
        sample.quantity("CPU time of the start", Unit::Seconds, cpu);
    }
    for (name, mebibytes) in qemu.io().into_iter().flatten() {
        sample.quantity(name, Unit::Mebibytes, mebibytes);
    }
}

/// What an idle node costs: CPU, memory and disk. `before` is what the host had available before
/// the start, `volumes` what the node's volumes take on disk.
///
/// # Errors
/// On Ctrl-C.
pub fn idle_cost(domain: &str, before: Option<f64>, sample: &mut Sample) -> Result<()> {
    interrupt::sleep(SETTLE)?;
    let Some(qemu) = Qemu::of(domain) else {
        return Ok(());
    };
    let (began, cpu) = (Instant::now(), qemu.cpu());
    interrupt::sleep(LOOK)?;
    if let (Some(before), Some(after)) = (cpu, qemu.cpu()) {
        let percent = (after - before) / began.elapsed().as_secs_f64() * 100.0;
        sample.quantity("idle CPU", Unit::Percent, percent);
    }
    if let Some(memory) = qemu.memory() {
        sample.quantity("memory of QEMU", Unit::Mebibytes, memory);
    }
    if let (Some(before), Some(after)) = (before, available_memory()) {
        sample.quantity("memory of the host", Unit::Mebibytes, before - after);
    }
    Ok(())
}

/// What the host has available, in MiB.
pub fn available_memory() -> Option<f64> {
    let text = fs::read_to_string(Path::new("/proc/meminfo")).ok()?;
    Some(meminfo(&text, "MemAvailable")?.0 as f64)
}

/// User and system time of `/proc/PID/stat`, in ticks. The program's name may hold anything.
pub fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A line of `/proc/PID/io`.
pub fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .and_then(|number| number.trim().parse().ok())
}
