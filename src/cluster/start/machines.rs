//! The step that starts a machine: from its saved memory, as a copy of a warm template, or by booting.

use std::time::Instant;

use crate::cluster::machine::domain;
use crate::cluster::machine::host::BaseVolumes;
use crate::cluster::machine::names;
use crate::cluster::saved::state::{Saved, SavedDir};
use crate::cluster::saved::{load, support, suspend};
use crate::cluster::start::assets;
use crate::cluster::start::context::{Flow, Origin, Start};
use crate::cluster::start::template;
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::interrupt;
use crate::provision;
use crate::trace;
use crate::units::Mebibytes;

/// Starts the machine of a node.
pub(super) fn run(start: &mut Start<'_>, node: usize) -> Result<Flow> {
    start.nodes[node].origin = begin(start, node)?;
    start.began = Instant::now();
    start.nodes[node].watcher.restart();
    Ok(Flow::Next)
}

fn begin(start: &mut Start<'_>, node: usize) -> Result<Origin> {
    if start.was_running {
        // From here on the disk changes: saved memory that a killed process left no longer fits it.
        fsutil::remove_all(&start.cluster.dir.suspended())?;
        let machine = &start.nodes[node].machine;
        // A machine that was loaded and not resumed has no forwards yet.
        machine.open_forwards(&names::own_forwards(&start.cluster.profile.nodes[node]))?;
        start.host.libvirt().resume(&machine.names.domain)?;
        return Ok(Origin::Running);
    }
    if suspend::is_suspended(&start.cluster) {
        if resume(start, node)? {
            start.stage("machine");
            return Ok(Origin::Resumed);
        }
        assets::get(start)?;
    }
    if start.boots == 1 && !start.nodes[node].identity_sent && template::copy(start, node)? {
        start.stage("machine");
        return Ok(Origin::Copied);
    }
    boot(start, node)?;
    Ok(Origin::Booted)
}

/// Resumes a suspended cluster. Returns `false` if its saved memory cannot be used: then it boots from
/// its disk.
fn resume(start: &mut Start<'_>, node: usize) -> Result<bool> {
    let dir = SavedDir::at(start.cluster.dir.suspended());
    let step = start.env.progress.step("Resume the machine");
    let resumed = match dir.load() {
        Ok(Some(saved)) => load_saved(start, node, &saved, &dir),
        Ok(None) => Err(Error::state("its saved memory is not complete")),
        Err(e) => Err(e),
    };
    match resumed {
        Ok(()) => {
            step.done("");
            Ok(true)
        }
        Err(e) if e.kind() == Kind::Interrupted => Err(e),
        Err(e) => {
            step.skipped("booting instead");
            start.env.progress.warn(&format!(
                "the saved memory cannot be used ({e}); the node boots from its disk"
            ));
            fsutil::remove_all(&dir.root)?;
            Ok(false)
        }
    }
}

fn load_saved(start: &mut Start<'_>, node: usize, saved: &Saved, dir: &SavedDir) -> Result<()> {
    if saved.disk != start.cluster.profile.nodes[node].disk {
        return Err(Error::state("the saved memory belongs to another disk"));
    }
    support::check(saved, start.host.target(), &start.info)?;
    start.nodes[node]
        .machine
        .ensure_seed(&start.cluster.dir, &[])?;
    start.replace_taken_ports()?;
    // From the first instruction on the disk changes, and the memory no longer fits it.
    let consume = || fsutil::remove_all(&dir.root);
    let machine = &start.nodes[node].machine;
    load::start(machine, &start.cluster, start.acceleration, saved, consume)
}

/// Creates what a machine lacks, and boots it.
fn boot(start: &mut Start<'_>, node: usize) -> Result<()> {
    let shared = start.env.lock_shared()?;
    let span = trace::span("make the machine's own volumes");
    start.pki()?;
    let files = provision::before_boot(&*start.plan()?);
    let base = BaseVolumes::of(&start.cluster.profile.assets).disk;
    let profile = &start.cluster.profile.nodes[node];
    // A disk that exists may be a layer over another disk than the image's.
    if !start.host.volumes()?.has(&profile.disk) {
        let size = Mebibytes(profile.machine.disk_mib);
        start.host.create_overlay(&profile.disk, &base, size)?;
    }
    let machine = &start.nodes[node].machine;
    machine.ensure_seed(&start.cluster.dir, &files)?;
    drop((shared, span));
    interrupt::check()?;
    let span = trace::span("define the domain");
    start.replace_taken_ports()?;
    let machine = &start.nodes[node].machine;
    domain::define(machine, &start.cluster.profile, start.acceleration)?;
    drop(span);
    interrupt::check()?;
    start.stage("machine");
    start.cluster.dir.machine_runs()?;
    let _span = trace::span("start the domain");
    let domain = &start.nodes[node].machine.names.domain;
    start.host.libvirt().start(domain).map(drop)
}
