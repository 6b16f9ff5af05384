//! The step that starts machines: from their saved memory, as copies of a warm template, or by booting.

use std::time::Instant;

use crate::cluster::machine::domain;
use crate::cluster::machine::host::BaseVolumes;
use crate::cluster::machine::names;
use crate::cluster::saved::load::{self, Part};
use crate::cluster::saved::state::{Saved, SavedDir};
use crate::cluster::saved::{support, suspend};
use crate::cluster::start::assets;
use crate::cluster::start::context::{Flow, Origin, Start};
use crate::cluster::start::template;
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::interrupt;
use crate::provision;
use crate::role::Role;
use crate::trace;
use crate::units::Mebibytes;

/// Starts the machines of all nodes.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    let whole = start.nodes.iter().all(|node| !node.runs) && begin_whole(start)?;
    for node in 0..start.nodes.len() {
        if !whole || !start.nodes[node].runs {
            run_one(start, node)?;
        }
    }
    Ok(Flow::Next)
}

/// Starts the machine of a node.
pub(super) fn run_one(start: &mut Start<'_>, node: usize) -> Result<()> {
    let origin = begin(start, node)?;
    began(start, node, origin);
    Ok(())
}

fn began(start: &mut Start<'_>, node: usize, origin: Origin) {
    let state = &mut start.nodes[node];
    state.origin = origin;
    state.runs = origin != Origin::Waiting;
    state.watcher.restart();
    start.began = Instant::now();
}

/// Starts the machines of a suspended cluster, or all machines of a new one as copies of a template of the
/// whole cluster. Returns `false` where it is neither.
fn begin_whole(start: &mut Start<'_>) -> Result<bool> {
    if suspend::is_suspended(&start.cluster) {
        if let Some(resumed) = resume(start)? {
            for node in resumed {
                began(start, node, Origin::Resumed);
            }
            start.stage("machine");
            return Ok(true);
        }
        assets::get(start)?;
        return Ok(false);
    }
    let state = &start.nodes[0];
    if state.boots > 1 || state.identity_sent || !template::copy_whole(start)? {
        return Ok(false);
    }
    for node in 0..start.nodes.len() {
        began(start, node, Origin::Copied);
    }
    start.stage("machine");
    Ok(true)
}

fn begin(start: &mut Start<'_>, node: usize) -> Result<Origin> {
    if start.nodes[node].runs {
        // From here on the disk changes: saved memory that a killed process left no longer fits it.
        fsutil::remove_all(&start.cluster.dir.suspended())?;
        let machine = &start.nodes[node].machine;
        // A machine that was loaded and not resumed has no forwards yet; nor has one that was the only one.
        machine.open_forwards(&names::own_forwards(&start.cluster.profile.nodes[node]))?;
        start.host.libvirt().resume(&machine.names.domain)?;
        return Ok(Origin::Running);
    }
    let state = &start.nodes[node];
    if node > 0 && state.boots == 1 && !state.identity_sent && template::copy_worker(start, node)? {
        start.stage("machine");
        return Ok(Origin::Copied);
    }
    if waits(start, node) {
        return Ok(Origin::Waiting);
    }
    boot(start, node)?;
    Ok(Origin::Booted)
}

/// Returns whether a worker waits for another one to boot, whose template it will be a copy of.
fn waits(start: &Start<'_>, node: usize) -> bool {
    let Some(template) = start.nodes[node].template.as_ref().filter(|_| node > 0) else {
        return false;
    };
    start.nodes[1..node].iter().any(|other| {
        let same = other
            .template
            .as_ref()
            .is_some_and(|t| t.key == template.key);
        same && other.runs && other.origin == Origin::Booted
    })
}

/// Resumes the machines of a suspended cluster that have saved memory; returns the indices of their nodes,
/// or nothing if the memory cannot be used: then the cluster boots from its disks.
fn resume(start: &mut Start<'_>) -> Result<Option<Vec<usize>>> {
    let dir = SavedDir::at(start.cluster.dir.suspended());
    let step = start.env.progress.step(match start.nodes.len() {
        1 => "Resume the machine",
        _ => "Resume the machines",
    });
    let resumed = match dir.load_all() {
        Ok(Some(parts)) => load_saved(start, &parts, &dir),
        Ok(None) => Err(Error::state("its saved memory is not complete")),
        Err(e) => Err(e),
    };
    match resumed {
        Ok(nodes) => {
            step.done("");
            Ok(Some(nodes))
        }
        Err(e) if e.kind() == Kind::Interrupted => Err(e),
        Err(e) => {
            step.skipped("booting instead");
            start.env.progress.warn(&format!(
                "the saved memory cannot be used ({e}); the node boots from its disk"
            ));
            fsutil::remove_all(&dir.root)?;
            Ok(None)
        }
    }
}

fn load_saved(start: &mut Start<'_>, parts: &[Saved], dir: &SavedDir) -> Result<Vec<usize>> {
    support::check_all(parts, start.host.target(), &start.info)?;
    let mut loaded = Vec::new();
    for saved in parts.iter().filter(|saved| saved.memory.is_some()) {
        let mut nodes = start.cluster.profile.nodes.iter();
        let node = nodes.position(|node| node.name == saved.node() && node.disk == saved.disk);
        let other = || Error::state("the saved memory belongs to another disk");
        let node = node.ok_or_else(other)?;
        start.nodes[node]
            .machine
            .ensure_seed(&start.dir_of(node), &[])?;
        start.replace_taken_ports(node)?;
        loaded.push((node, saved));
    }
    // From the first instruction on the disk changes, and the memory no longer fits it.
    let consume = || fsutil::remove_all(&dir.root);
    let parts: Vec<Part<'_>> = loaded
        .iter()
        .map(|(node, saved)| Part {
            machine: &start.nodes[*node].machine,
            node: start.profile_of(*node),
            saved,
        })
        .collect();
    load::start(&parts, &start.cluster, start.acceleration, consume)?;
    Ok(loaded.into_iter().map(|(node, _)| node).collect())
}

/// Creates what a machine lacks, and boots it.
fn boot(start: &mut Start<'_>, node: usize) -> Result<()> {
    let shared = start.env.lock_shared()?;
    let span = trace::span("make the machine's own volumes");
    let is_worker = start.profile_of(node).role == Role::Worker;
    let files = match is_worker && start.nodes[node].created {
        // It may become a template before it joins the cluster.
        true => provision::before_boot(&start.anonymous_plan()?),
        false => provision::before_boot(&*start.plan(node)?),
    };
    let base = BaseVolumes::of(&start.cluster.profile.assets).disk;
    let profile = &start.cluster.profile.nodes[node];
    // A disk that exists may be a layer over another disk than the image's.
    if !start.host.volumes()?.has(&profile.disk) {
        let size = Mebibytes(profile.machine.disk_mib);
        start.host.create_overlay(&profile.disk, &base, size)?;
    }
    let machine = &start.nodes[node].machine;
    machine.ensure_seed(&start.dir_of(node), &files)?;
    drop((shared, span));
    interrupt::check()?;
    let span = trace::span("define the domain");
    start.replace_taken_ports(node)?;
    let machine = &start.nodes[node].machine;
    let profile = &start.cluster.profile;
    domain::define(machine, profile, &profile.nodes[node], start.acceleration)?;
    drop(span);
    interrupt::check()?;
    start.stage("machine");
    start.dir_of(node).machine_runs()?;
    let _span = trace::span("start the domain");
    let domain = &start.nodes[node].machine.names.domain;
    start.host.libvirt().start(domain).map(drop)
}
