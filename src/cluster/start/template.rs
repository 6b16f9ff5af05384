//! Warm templates: the first healthy start of a specification saves the machine as a template, and the
//! next cluster with that specification begins as a copy of it. A worker is saved before it joins its
//! cluster, so that copies can join any.

use std::time::Duration;

use crate::addon::Addon;
use crate::cluster::addons;
use crate::cluster::machine::keys;
use crate::cluster::saved::save::{Save, SaveReason, Written};
use crate::cluster::saved::state::{Saved, SavedDir, Stamp};
use crate::cluster::saved::template::Template;
use crate::cluster::saved::{garbage, identity, load, support};
use crate::cluster::start::connect::{self, when_keys_are_read};
use crate::cluster::start::context::{Flow, NodeStart, Origin, Start};
use crate::cluster::template_key::{self, KeyParts};
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::pki::{self, Pki};
use crate::profile::Profile;
use crate::progress::Step;
use crate::provision::{self, Links};
use crate::role::Role;
use crate::store::ProfileDir;
use crate::trace;
use crate::units::Mebibytes;

/// The limit for the SSH server to read its keys again, with hardware virtualisation.
const KEYS_LIMIT: Duration = Duration::from_secs(10);

/// Returns the template for this start's specification; `None` if templates are not wanted or not
/// possible. The assets are known already.
pub(super) fn find(start: &Start<'_>) -> Result<Option<Template>> {
    let first = start.plan_with(0, &Links::default(), &Pki::made_up(""))?;
    let mut plan = provision::digest(&first);
    let nodes = start.cluster.profile.nodes.iter().enumerate().skip(1);
    for (node, _) in nodes.filter(|(_, node)| node.role == Role::ControlPlane) {
        let other = start.plan_with(node, &Links::default(), &Pki::made_up(""))?;
        plan.push_str(&provision::digest(&other));
    }
    if start.nodes.len() > 1 {
        plan.push_str(&provision::digest(&start.anonymous_plan()?));
    }
    // Archives may be large: their stamps stand for their content.
    let archives = start.archives.iter();
    let mut archives: Vec<String> = archives
        .map(|path| format!("{} {:?}", path.display(), Stamp::of(path)))
        .collect();
    archives.sort();
    of(start, &start.cluster.profile, plan, archives)
}

/// Returns the template for a worker as it is before it joins a cluster; `None` as [`find`].
pub(super) fn find_worker(start: &Start<'_>, node: usize) -> Result<Option<Template>> {
    let plan = provision::digest(&start.anonymous_plan()?);
    let profile = start.cluster.profile.with_nodes(&[node]);
    of(start, &profile, plan, Vec::new())
}

fn of(
    start: &Start<'_>,
    profile: &Profile,
    plan: String,
    archives: Vec<String>,
) -> Result<Option<Template>> {
    if start.options.cluster.no_template || support::obstacle(&start.info).is_some() {
        return Ok(None);
    }
    let addons = addons::enabled(profile, &start.cluster.dir)?;
    let digest = |addon: &Addon| (addon.name.clone(), addon.digest());
    let parts = KeyParts {
        plan,
        addons: addons.iter().map(digest).collect(),
        archives,
    };
    let key = template_key::template_key(profile, &parts)?;
    let dir = SavedDir::at(start.env.store.templates_dir().join(&key));
    Ok(Some(Template { key, dir }))
}

/// Makes all machines copies of the template and starts them. Returns `false` if there is no template, or
/// none that can be used; the attempt is undone then.
pub(super) fn copy_whole(start: &mut Start<'_>) -> Result<bool> {
    let nodes = (0..start.nodes.len()).collect();
    copy(start, start.template.clone(), nodes)
}

/// Makes a new worker's machine a copy of the template of one, as [`copy_whole`].
pub(super) fn copy_worker(start: &mut Start<'_>, node: usize) -> Result<bool> {
    copy(start, start.nodes[node].template.clone(), vec![node])
}

fn copy(start: &mut Start<'_>, template: Option<Template>, nodes: Vec<usize>) -> Result<bool> {
    let Some(template) = template else {
        return Ok(false);
    };
    // A first start has no template, which need not be reported.
    let Some(found) = template.dir.load_all().transpose() else {
        return Ok(false);
    };
    let step = start.env.progress.step("Start from the warm template");
    for node in &nodes {
        start.nodes[*node].copy_of = Some(template.clone());
    }
    let copied = found.and_then(|parts| {
        support::check_all(&parts, start.host.target(), &start.info)?;
        if nodes[0] == 0 {
            support::check_certificates(&template.dir.files())?;
            check_names(start, &parts)?;
        }
        start_copies(start, &nodes, &parts, &template.dir)
    });
    match copied {
        Ok(()) => {
            step.done(&template.key);
            Ok(true)
        }
        Err(e) if e.kind() == Kind::Interrupted => Err(e),
        Err(e) => {
            step.skipped("it cannot be used");
            give_up(start, nodes[0], &e)?;
            Ok(false)
        }
    }
}

/// Checks that the nodes of a template have the names and addresses of the new cluster's.
fn check_names(start: &Start<'_>, parts: &[Saved]) -> Result<()> {
    let identities = |profile: &Profile| -> Vec<(String, u8)> {
        let nodes = profile.nodes.iter();
        nodes.map(|node| (node.name.clone(), node.number)).collect()
    };
    match identities(&parts[0].profile) == identities(&start.cluster.profile) {
        true => Ok(()),
        false => Err(Error::state("its nodes have other names")),
    }
}

fn start_copies(
    start: &mut Start<'_>,
    nodes: &[usize],
    parts: &[Saved],
    from: &SavedDir,
) -> Result<()> {
    for (index, (node, saved)) in nodes.iter().zip(parts).enumerate() {
        let original = from.part(index, saved.node()).files();
        prepare_copy(start, *node, saved, &original)?;
    }
    let dirs: Vec<ProfileDir> = nodes.iter().map(|node| start.dir_of(*node)).collect();
    let runs = || dirs.iter().try_for_each(ProfileDir::machine_runs);
    let loads: Vec<load::Part<'_>> = nodes
        .iter()
        .zip(parts)
        .map(|(node, saved)| load::Part {
            machine: &start.nodes[*node].machine,
            node: start.profile_of(*node),
            saved,
        })
        .collect();
    load::start(&loads, &start.cluster, start.acceleration, runs)
}

/// Gives a copy its disk, seed, keys and ports. A worker that belonged to no cluster has no certificates.
fn prepare_copy(
    start: &mut Start<'_>,
    node: usize,
    saved: &Saved,
    original: &ProfileDir,
) -> Result<()> {
    let span = trace::span("make the machine's own volumes");
    let shared = start.env.lock_shared()?;
    let profile = &start.cluster.profile.nodes[node];
    let size = Mebibytes(profile.machine.disk_mib);
    start
        .host
        .create_overlay(&profile.disk, &saved.disk, size)?;
    let dir = start.dir_of(node);
    start.nodes[node].machine.ensure_seed(&dir, &[])?;
    drop((shared, span));
    let span = trace::span("copy the keys");
    fsutil::copy_private(&original.pki(), &dir.pki())?;
    if node == 0 {
        pki::forget_operator(&dir.pki())?;
    }
    let shared = start.env.lock_shared()?;
    keys::hand_over(&dir, |to| keys::copy(original, to))?;
    drop(shared);
    start.replace_taken_ports(node)?;
    drop(span);
    Ok(())
}

/// Undoes a copy of a template: the machine boots instead, and with the first one all that were copied with
/// it. The template is removed, and a new one is saved, unless the copy was only too slow for the first
/// time.
pub(super) fn give_up(start: &mut Start<'_>, node: usize, why: &Error) -> Result<()> {
    let Some(template) = start.nodes[node].copy_of.clone() else {
        return Ok(());
    };
    let discard = template.should_discard(why);
    start.env.progress.warn(&format!(
        "the warm template {} cannot be used{} ({why}); booting instead",
        template.key,
        if discard { " and is removed" } else { " now" }
    ));
    let is_copy = |state: &NodeStart<'_>| {
        state
            .copy_of
            .as_ref()
            .is_some_and(|t| t.key == template.key)
    };
    let together = |other: &usize| *other == node || node == 0 && is_copy(&start.nodes[*other]);
    let undone: Vec<usize> = (0..start.nodes.len()).filter(together).collect();
    for node in &undone {
        undo_copy(start, *node)?;
    }
    if discard {
        let _shared = start.env.lock_shared()?;
        fsutil::remove_all(&template.dir.root)?;
        garbage::sweep(start.host, None)?;
    } else {
        template.mark_suspect()?;
        // Neither used again by this start nor replaced.
        let forget = |slot: &mut Option<Template>| {
            slot.take_if(|t| t.key == template.key);
        };
        forget(&mut start.template);
        start
            .nodes
            .iter_mut()
            .for_each(|node| forget(&mut node.template));
    }
    Ok(())
}

fn undo_copy(start: &mut Start<'_>, node: usize) -> Result<()> {
    start.nodes[node].machine.power_off()?;
    let dir = start.dir_of(node);
    fsutil::remove_all(&dir.pki())?;
    keys::end_handover(&dir)?;
    let _shared = start.env.lock_shared()?;
    // The seed of a copy brings only its keys; that of a boot more.
    let seed = &start.nodes[node].machine.names.seed;
    for volume in [&start.profile_of(node).disk, seed] {
        start.host.delete_volume(volume)?;
    }
    start.begin_again(node);
    Ok(())
}

/// Saves the healthy cluster as a template before the user gets it, so that nothing of theirs is in it.
/// A failure to save is a warning.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    let to_save = |_: &mut Template| start.created && start.nodes[0].origin == Origin::Booted;
    if let Some(template) = start.template.take_if(to_save) {
        let step = start.env.progress.step("Save a warm template");
        let all = (0..start.nodes.len()).collect();
        let saved = save(start, all, &template, &step);
        finish_save(start, step, saved)?;
    }
    Ok(Flow::Next)
}

/// Saves a worker's machine that has booted and belongs to no cluster yet, if there is no template of it.
///
/// # Errors
/// Those of connecting to it; a failure to save is a warning.
pub(super) fn save_worker(start: &mut Start<'_>, node: usize) -> Result<()> {
    let state = &mut start.nodes[node];
    let is_new = state.created && state.runs && state.origin == Origin::Booted;
    let lacks = |template: &mut Template| is_new && !template.dir.root.exists();
    let Some(template) = state.template.take_if(lacks) else {
        return Ok(());
    };
    connect::run(start, node)?;
    let step = start.env.progress.step("Save a warm template of a worker");
    let saved =
        prepare_worker(start, node).and_then(|()| save(start, vec![node], &template, &step));
    finish_save(start, step, saved)
}

/// Brings a worker's machine to where all workers are alike.
fn prepare_worker(start: &mut Start<'_>, node: usize) -> Result<()> {
    let plan = start.anonymous_plan()?;
    let addons = addons::enabled(&start.cluster.profile, &start.cluster.dir)?;
    let session = start.nodes[node].session()?;
    provision::apply(session, &plan)?;
    addons::import(session, &addons.iter().collect::<Vec<_>>())?;
    provision::read_programs(session)
}

fn finish_save(start: &mut Start<'_>, step: Step, saved: Result<Written>) -> Result<()> {
    match saved {
        Ok(written) => step.done(written.summary()),
        Err(e) if e.kind() == Kind::Interrupted => return Err(e),
        Err(e) => {
            step.skipped("not saved");
            let progress = start.env.progress;
            progress.warn(&format!("the next start will boot too: {e}"));
        }
    }
    start.stage("template");
    Ok(())
}

/// Saves nodes as a template, with keys of its own for that moment.
fn save(
    start: &mut Start<'_>,
    nodes: Vec<usize>,
    template: &Template,
    step: &Step,
) -> Result<Written> {
    let env = start.env;
    for node in &nodes {
        let dir = start.dir_of(*node);
        // From here until the node has its own keys back the next start tries both.
        let _shared = env.lock_shared()?;
        keys::hand_over(&dir, |to| keys::ensure(to).map(drop))?;
    }
    let borrowed = |dir: ProfileDir| ProfileDir::at(dir.handover());
    give_keys(start, &nodes, &borrowed)?;
    let machines = nodes
        .iter()
        .map(|node| (*node, &start.nodes[*node].machine));
    let save = Save {
        env: &env,
        machines: machines.collect(),
        step,
        reason: SaveReason::Keep,
    };
    fsutil::create_private_dir(&env.store.templates_dir())?;
    let written = save.write(&mut start.cluster, &template.dir);
    for node in &nodes {
        let dir = start.dir_of(*node);
        let state = &mut start.nodes[*node];
        identity::install(state.session()?, &keys::files(&dir)?)?;
        keys::end_handover(&dir)?;
    }
    if nodes[0] == 0 {
        pki::forget_operator(&template.dir.files().pki())?;
    }
    // The next login cannot meet it while it reads them.
    wait_for_keys(start, &nodes, &|dir| dir)?;
    written
}

/// Gives nodes the keys in a folder, and waits until their SSH servers have read them: one that was saved
/// while it reads its keys would do so in each copy.
fn give_keys(
    start: &mut Start<'_>,
    nodes: &[usize],
    folder: &dyn Fn(ProfileDir) -> ProfileDir,
) -> Result<()> {
    for node in nodes {
        let files = keys::files(&folder(start.dir_of(*node)))?;
        identity::install(start.nodes[*node].session()?, &files)?;
    }
    wait_for_keys(start, nodes, folder)
}

fn wait_for_keys(
    start: &Start<'_>,
    nodes: &[usize],
    folder: &dyn Fn(ProfileDir) -> ProfileDir,
) -> Result<()> {
    let limit = start.cluster.deadline(KEYS_LIMIT);
    for node in nodes {
        let keys = folder(start.dir_of(*node));
        let target = start.cluster.target_with(start.profile_of(*node), &keys)?;
        when_keys_are_read(start.env.backend, &target, limit)?;
    }
    Ok(())
}
