//! Saving a machine's memory, devices and disk to files, and taking them up again.
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
use crate::hypervisor::{Change, storage_xml};
use crate::{interrupt, trace};

/// Writing a machine's memory takes seconds; this is for a disk that hangs.
const SAVE_LIMIT: Duration = Duration::from_secs(300);
/// Loading devices takes a moment.
const LOAD_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// QEMU's name for pages at fixed places.
const MAPPED: &str = "mapped-ram";
/// QEMU's name for several threads that write.
const THREADS: &str = "multifd";

/// Gives QEMU's monitor a command and returns what it answers.
fn tell(libvirt: &Libvirt, name: &str, command: &str, arguments: Value) -> Result<Value> {
    let request = json!({"execute": command, "arguments": arguments}).to_string();
    let name = name.to_owned();
    let what = format!("ask QEMU of the domain {name} for {command}");
    let answer = libvirt.call(&what.clone(), move |c| {
        domain::require(c, &name)?
            .qemu_monitor_command(&request, sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
            .map_err(|e| failure::call(&what, &e))
    })?;
    let answer: Value = serde_json::from_str(&answer).context(Kind::Hypervisor, || {
        format!("QEMU's answer to {command} is no JSON")
    })?;
    match answer.pointer("/error/desc").and_then(Value::as_str) {
        Some(why) => Err(
            Error::new(Kind::Hypervisor, format!("QEMU refuses {command}"))
                .with_source(why.to_owned()),
        ),
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
    tell(libvirt, name, "migrate-set-capabilities", arguments).map(drop)
}

/// Waits for the end of what `migrate` or `migrate-incoming` has begun, also on Ctrl-C: it takes
/// seconds, and QEMU 10 may crash when a saving with several threads is cancelled (one of them
/// touches what the end of the migration has freed).
fn wait(libvirt: &Libvirt, name: &str, what: &str, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    loop {
        let state = tell(libvirt, name, "query-migrate", json!({}))?;
        match state["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let why = state["error-desc"]
                    .as_str()
                    .unwrap_or("QEMU gives no reason");
                return Err(Error::new(
                    Kind::Hypervisor,
                    format!("QEMU cannot {what} of the domain {name}"),
                )
                .with_source(why.to_owned()));
            }
            _ if Instant::now() >= until => {
                let _ = tell(libvirt, name, "migrate_cancel", json!({}));
                return Err(Error::new(
                    Kind::Hypervisor,
                    format!(
                        "QEMU did not {what} of the domain {name} within {} s",
                        limit.as_secs()
                    ),
                ));
            }
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
}

fn uri(file: &Path) -> Result<String> {
    let path = file.to_str().ok_or_else(|| {
        Error::new(
            Kind::Usage,
            format!("the path {} is not valid UTF-8", file.display()),
        )
    })?;
    // QEMU takes `,offset=` off the end of the path.
    if path.contains(',') {
        return Err(Error::new(
            Kind::Usage,
            format!("QEMU cannot save to {path}, which has a comma"),
        ));
    }
    Ok(format!("file:{path}"))
}

pub(super) fn pause(libvirt: &Libvirt, name: &str) -> Result<Change> {
    let name = name.to_owned();
    let what = format!("pause the domain {name}");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let handle = domain::require(c, &name)?;
        if domain::is_paused(&handle).map_err(fail)? {
            return Ok(Change::Nothing);
        }
        handle.suspend().map_err(fail)?;
        Ok(Change::Done)
    })
}

pub(super) fn save_memory(libvirt: &Libvirt, name: &str, file: &Path) -> Result<()> {
    let to = uri(file)?;
    capabilities(libvirt, name, &[MAPPED, THREADS], true)?;
    let saved = || -> Result<()> {
        // No bandwidth limit; the machine is paused and waits for nothing else.
        let parameters = json!({"multifd-channels": 4, "max-bandwidth": 0});
        tell(libvirt, name, "migrate-set-parameters", parameters)?;
        tell(libvirt, name, "migrate", json!({ "uri": to }))?;
        wait(libvirt, name, "save the memory", SAVE_LIMIT)
    }();
    let reset = capabilities(libvirt, name, &[MAPPED, THREADS], false);
    saved.and(reset)?;
    interrupt::check()
}

/// Waits for the end of a saving that nobody else waits for any more: its kubby was killed. QEMU
/// goes on with it by itself, and pauses the machine at its end, however it runs by then.
///
/// # Errors
/// [`Kind::Hypervisor`] when QEMU does not come to an end.
pub(super) fn end_abandoned(libvirt: &Libvirt, name: &str) -> Result<()> {
    let state = tell(libvirt, name, "query-migrate", json!({}))?;
    let status = state["status"].as_str();
    if status.is_none_or(|status| status == "none") {
        return Ok(());
    }
    if !matches!(status, Some("completed" | "failed" | "cancelled")) {
        // That it failed is no harm: nobody uses what it wrote.
        let _ = wait(libvirt, name, "end the saving", SAVE_LIMIT);
    }
    capabilities(libvirt, name, &[MAPPED, THREADS], false)
}

pub(super) fn switch_disk(libvirt: &Libvirt, name: &str, overlay: &Path) -> Result<()> {
    let xml = storage_xml::disk_snapshot("vda", &overlay.to_string_lossy())?;
    let name = name.to_owned();
    let what = format!("freeze the disk of the domain {name}");
    libvirt.call(&what.clone(), move |c| {
        // Without metadata: kubby knows its layers itself, and a domain with libvirt's snapshots
        // cannot simply be undefined.
        let flags =
            sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA;
        domain::require(c, &name)?
            .create_snapshot_xml(&xml, flags)
            .map(drop)
            .map_err(|e| failure::call(&what, &e))
    })
}

/// What the XML of a domain that is there says, the running one's before the defined one's.
fn read_xml(
    libvirt: &Libvirt,
    name: &str,
    read: fn(&str) -> Option<String>,
) -> Result<Option<PathBuf>> {
    let xml = domain::definition(libvirt, name)?;
    Ok(xml.and_then(|xml| read(&xml)).map(PathBuf::from))
}

pub(super) fn root_disk(libvirt: &Libvirt, name: &str) -> Result<Option<PathBuf>> {
    read_xml(libvirt, name, domain_xml::root_disk)
}

pub(super) fn mapped_memory(libvirt: &Libvirt, name: &str) -> Result<Option<PathBuf>> {
    read_xml(libvirt, name, domain_xml::mapped_memory)
}

pub(super) fn start_paused_from(
    libvirt: &Libvirt,
    spec: &DomainSpec,
    incoming: &Incoming,
) -> Result<()> {
    let devices = uri(Path::new(&incoming.devices))?;
    let what = format!("start the domain {} from saved memory", spec.name);
    let quick = domain_xml::render_incoming(spec, incoming, true)?;
    let plain = domain_xml::render_incoming(spec, incoming, false)?;
    libvirt.call(&what.clone(), move |c| {
        // The definition stays what it is: this one is for a single run.
        let create = |xml: &str| c.create_domain_xml(xml, sys::VIR_DOMAIN_START_PAUSED);
        match create(&quick) {
            // Among many others, the number for an unknown capability.
            Err(e) if failure::is(&e, ErrorNumber::InternalError) => create(&plain),
            created => created,
        }
        .map(drop)
        .map_err(|e| failure::call(&what, &e))
    })?;
    let name = &spec.name;
    let _span = trace::span("load memory and devices");
    let loaded = || -> Result<()> {
        capabilities(libvirt, name, &[MAPPED], true)?;
        tell(libvirt, name, "migrate-incoming", json!({ "uri": devices }))?;
        wait(libvirt, name, "load the saved state", LOAD_LIMIT)?;
        capabilities(libvirt, name, &[MAPPED], false)
    }();
    loaded.inspect_err(|_| {
        let _ = domain::destroy(libvirt, name);
    })
}

pub(super) fn is_half_loaded(libvirt: &Libvirt, name: &str) -> Result<bool> {
    // Only one that began from saved memory can be, and only a run has such memory: the definition
    // for later starts names none.
    if mapped_memory(libvirt, name)?.is_none() {
        return Ok(false);
    }
    let status = tell(libvirt, name, "query-status", json!({}))?;
    Ok(status["status"] == "inmigrate")
}

pub(super) fn create_state_file(libvirt: &Libvirt, path: &Path) -> Result<()> {
    let fail = || format!("cannot make the file {}", path.display());
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .context(Kind::Hypervisor, fail)?;
    // As with a pool's volumes: only QEMU's user reads it, whom only the system's libvirt changes
    // to, and only root may give a file away.
    let ids = libvirt.host_info()?.qemu_ids;
    if let Some((user, group)) = ids.filter(|_| rustix::process::geteuid().is_root()) {
        chown(path, Some(user), Some(group)).context(Kind::Hypervisor, fail)?;
    }
    Ok(())
}
