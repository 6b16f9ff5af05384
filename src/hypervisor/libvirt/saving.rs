//! Saving a machine's memory, devices and disk to files, and starting from them.
//!
//! libvirt's own save files hold the memory as a stream that each restore has to read in full.
//! Here QEMU writes it with each page at a fixed place (see
//! [`saved_stream`](crate::hypervisor::saved_stream)), so that a new machine maps the file and is
//! there at once; libvirt keeps the machine's life cycle.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use virt::error::ErrorNumber;
use virt::sys;

use super::connection::Libvirt;
use super::{domain, failure};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::hypervisor::domain_xml::{self, DomainSpec, Incoming};
use crate::hypervisor::{Change, Hypervisor, Saving, channel, storage_xml};
use crate::{fault, interrupt, trace};

/// The time for writing a machine's memory, which takes seconds unless the disk hangs.
const SAVE_LIMIT: Duration = Duration::from_secs(300);
/// The time for loading devices, which takes a moment.
const LOAD_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// QEMU's name for pages at fixed places.
const MAPPED: &str = "mapped-ram";
/// QEMU's name for several threads that write.
const THREADS: &str = "multifd";

/// Gives QEMU's monitor a command and returns what it answers.
fn ask(libvirt: &Libvirt, name: &str, command: &str, arguments: Value) -> Result<Value> {
    let request = json!({"execute": command, "arguments": arguments}).to_string();
    let flags = sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT;
    let answer = libvirt.monitor(name, request, flags)?;
    let answer: Value = serde_json::from_str(&answer).context(Kind::Hypervisor, || {
        format!("QEMU's answer to {command} is not JSON")
    })?;
    match answer.pointer("/error/desc").and_then(Value::as_str) {
        Some(why) => {
            Err(Error::hypervisor(format!("QEMU refuses {command}")).with_source(why.to_owned()))
        }
        None => Ok(answer["return"].clone()),
    }
}

/// Switches capabilities of QEMU's migrations. They last, and libvirt's own saves cannot work
/// with them, so they are switched off after each use.
fn capabilities(libvirt: &Libvirt, name: &str, which: &[&str], on: bool) -> Result<()> {
    let list: Vec<Value> = which
        .iter()
        .map(|capability| json!({"capability": capability, "state": on}))
        .collect();
    let arguments = json!({ "capabilities": list });
    ask(libvirt, name, "migrate-set-capabilities", arguments).map(drop)
}

/// Waits for the end of what `migrate` or `migrate-incoming` has begun, also on Ctrl-C: it takes
/// seconds, and QEMU 10 may crash when a saving with several threads is cancelled (one of them
/// touches what the end of the migration has freed).
fn wait(libvirt: &Libvirt, name: &str, what: &str, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    loop {
        let state = ask(libvirt, name, "query-migrate", json!({}))?;
        match state["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let why = state["error-desc"]
                    .as_str()
                    .unwrap_or("QEMU gives no reason");
                return Err(
                    Error::hypervisor(format!("QEMU cannot {what} of the domain {name}"))
                        .with_source(why.to_owned()),
                );
            }
            _ if Instant::now() >= until => {
                let _ = ask(libvirt, name, "migrate_cancel", json!({}));
                return Err(Error::hypervisor(format!(
                    "QEMU did not {what} of the domain {name} within {} s",
                    limit.as_secs()
                )));
            }
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
}

fn uri(file: &Path) -> Result<String> {
    let path = file
        .to_str()
        .ok_or_else(|| Error::usage(format!("the path {} is not valid UTF-8", file.display())))?;
    // QEMU takes `,offset=` off the end of the path.
    if path.contains(',') {
        return Err(Error::usage(format!(
            "QEMU cannot save to {path}, which has a comma"
        )));
    }
    Ok(format!("file:{path}"))
}

fn save(libvirt: &Libvirt, name: &str, file: &Path) -> Result<()> {
    let to = uri(file)?;
    capabilities(libvirt, name, &[MAPPED, THREADS], true)?;
    let saved = || -> Result<()> {
        // No bandwidth limit; the machine is paused and waits for nothing else.
        let parameters = json!({"multifd-channels": 4, "max-bandwidth": 0});
        ask(libvirt, name, "migrate-set-parameters", parameters)?;
        ask(libvirt, name, "migrate", json!({ "uri": to }))?;
        wait(libvirt, name, "save the memory", SAVE_LIMIT)
    }();
    let reset = capabilities(libvirt, name, &[MAPPED, THREADS], false);
    saved.and(reset)?;
    interrupt::check()
}

/// Waits for the end of a saving whose kubby process was killed. QEMU continues it by itself, and
/// pauses the machine at its end, whatever the machine does by then.
///
/// # Errors
/// [`Kind::Hypervisor`] when QEMU does not come to an end.
pub(super) fn end_abandoned(libvirt: &Libvirt, name: &str) -> Result<()> {
    let state = ask(libvirt, name, "query-migrate", json!({}))?;
    let status = state["status"].as_str();
    if status.is_none_or(|status| status == "none") {
        return Ok(());
    }
    if !matches!(status, Some("completed" | "failed" | "cancelled")) {
        // A failure does no harm: the file is not used.
        let _ = wait(libvirt, name, "end the saving", SAVE_LIMIT);
    }
    capabilities(libvirt, name, &[MAPPED, THREADS], false)
}

fn load(libvirt: &Libvirt, spec: &DomainSpec, incoming: &Incoming) -> Result<()> {
    let devices = uri(Path::new(&incoming.devices))?;
    let name = &spec.name;
    let quick = domain_xml::render_incoming(spec, incoming, true)?;
    let plain = domain_xml::render_incoming(spec, incoming, false)?;
    let what = format!("start the domain {name} from saved memory");
    libvirt.call(&what, move |c| {
        // The definition stays what it is: this one is for a single run.
        let create = |xml: &str| c.create_domain_xml(xml, sys::VIR_DOMAIN_START_PAUSED);
        match create(&quick) {
            // Among many others, the number for an unknown capability.
            Err(e) if failure::is(&e, ErrorNumber::InternalError) => create(&plain),
            created => created,
        }?;
        Ok(())
    })?;
    let _span = trace::span("load memory and devices");
    let loaded = || -> Result<()> {
        capabilities(libvirt, name, &[MAPPED], true)?;
        ask(libvirt, name, "migrate-incoming", json!({ "uri": devices }))?;
        wait(libvirt, name, "load the saved state", LOAD_LIMIT)?;
        capabilities(libvirt, name, &[MAPPED], false)
    }();
    loaded.inspect_err(|_| {
        let _ = libvirt.destroy(name);
    })
}

/// Makes a file that only QEMU's user reads, as libvirt does with a pool's volumes. Only the
/// system's libvirt changes to another user, and only root can give a file away.
fn create_file(libvirt: &Libvirt, path: &Path) -> Result<()> {
    let fail = || format!("cannot make the file {}", path.display());
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .context(Kind::Hypervisor, fail)?;
    let ids = libvirt.host_info()?.qemu_ids;
    if let Some((user, group)) = ids.filter(|_| rustix::process::geteuid().is_root()) {
        chown(path, Some(user), Some(group)).context(Kind::Hypervisor, fail)?;
    }
    Ok(())
}

impl Saving for Libvirt {
    fn pause(&self, domain: &str) -> Result<Change> {
        fault::step("pause", || {
            self.with_domain("pause", domain, |domain| {
                if domain::is_paused(&domain)? {
                    return Ok(Change::Nothing);
                }
                domain.suspend()?;
                Ok(Change::Done)
            })
        })
    }

    fn save_memory(&self, domain: &str, file: &Path) -> Result<()> {
        fault::step("save memory", || save(self, domain, file))
    }

    fn switch_disk(&self, domain: &str, overlay: &Path) -> Result<()> {
        let xml = storage_xml::disk_snapshot("vda", &overlay.to_string_lossy())?;
        // Without metadata: kubby knows its layers itself, and a domain with libvirt's snapshots
        // cannot simply be undefined.
        let flags =
            sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA;
        fault::step("switch the disk", || {
            self.with_domain("freeze the disk of", domain, move |domain| {
                domain.create_snapshot_xml(&xml, flags)?;
                Ok(())
            })
        })
    }

    fn root_disk(&self, domain: &str) -> Result<Option<PathBuf>> {
        let xml = self.definition(domain)?;
        Ok(xml.and_then(|xml| domain_xml::root_disk(&xml)))
    }

    fn mapped_memory(&self, domain: &str) -> Result<Option<PathBuf>> {
        let xml = self.definition(domain)?;
        Ok(xml.and_then(|xml| domain_xml::mapped_memory(&xml)))
    }

    fn start_paused_from(&self, spec: &DomainSpec, incoming: &Incoming) -> Result<()> {
        fault::step("load memory", || load(self, spec, incoming))
    }

    fn is_half_loaded(&self, domain: &str) -> Result<bool> {
        // Only one that began from saved memory can be, and only a run has such memory: the
        // definition for later starts names none.
        if self.mapped_memory(domain)?.is_none() {
            return Ok(false);
        }
        let status = ask(self, domain, "query-status", json!({}))?;
        Ok(status["status"] == "inmigrate")
    }

    fn ensure_channel(&self, channel: &Path) -> Result<()> {
        fault::step("make the channel", || channel::ensure(channel))
    }

    fn remove_channel(&self, channel: &Path) -> Result<bool> {
        fault::step("remove the channel", || channel::remove(channel))
    }

    fn run_script(&self, channel: &Path, script: &str, limit: Duration) -> Result<()> {
        fault::step("tell", || channel::run(channel, script, limit))
    }

    fn create_state_file(&self, path: &Path) -> Result<()> {
        fault::step("make a state file", || create_file(self, path))
    }
}
