//! Warm templates: the first healthy start of a specification saves the machine as a template, and the
//! next cluster with that specification begins as a copy of it.

use std::time::Duration;

use crate::addon::Addon;
use crate::cluster::addons;
use crate::cluster::machine::keys;
use crate::cluster::saved::save::{Save, SaveReason};
use crate::cluster::saved::state::{Saved, SavedDir, Stamp};
use crate::cluster::saved::template::Template;
use crate::cluster::saved::{garbage, identity, load, support};
use crate::cluster::start::connect::when_keys_are_read;
use crate::cluster::start::context::{Flow, Origin, Start};
use crate::cluster::template_key::{self, KeyParts};
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::pki::{self, Pki};
use crate::progress::Step;
use crate::provision;
use crate::store::ProfileDir;
use crate::trace;
use crate::units::{Mebibytes, human_bytes};

/// The limit for the SSH server to read its keys again, with hardware virtualisation.
const KEYS_LIMIT: Duration = Duration::from_secs(10);

/// Returns the template for this start's specification; `None` if templates are not wanted or not
/// possible. The assets are known already.
pub(super) fn find(start: &mut Start<'_>) -> Result<Option<Template>> {
    if start.options.cluster.no_template || support::obstacle(&start.info).is_some() {
        return Ok(None);
    }
    let plan = start.plan_with(&Pki::blank())?;
    let addons = addons::enabled(&start.cluster.profile, &start.cluster.dir)?;
    let digest = |addon: &Addon| (addon.name.clone(), addon.digest());
    // Archives may be large: their stamps stand for their content.
    let archives = start.archives.iter();
    let mut archives: Vec<String> = archives
        .map(|path| format!("{} {:?}", path.display(), Stamp::of(path)))
        .collect();
    archives.sort();
    let parts = KeyParts {
        plan: provision::digest(&plan),
        addons: addons.iter().map(digest).collect(),
        archives,
    };
    let key = template_key::template_key(&start.cluster.profile, &parts)?;
    let dir = SavedDir::at(start.env.store.templates_dir().join(&key));
    Ok(Some(Template { key, dir }))
}

/// Makes a node's machine a copy of the template and starts it. Returns `false` if there is no template,
/// or none that can be used; the attempt is undone then.
pub(super) fn copy(start: &mut Start<'_>, node: usize) -> Result<bool> {
    let Some(template) = &start.template else {
        return Ok(false);
    };
    let (key, dir) = (template.key.clone(), template.dir.clone());
    // A first start has no template, which need not be reported.
    let Some(found) = dir.load().transpose() else {
        return Ok(false);
    };
    let step = start.env.progress.step("Start from the warm template");
    let copied = found.and_then(|saved| {
        support::check(&saved, start.host.target(), &start.info)?;
        support::check_certificates(&dir.files())?;
        start_copy(start, node, &saved, &dir.files())
    });
    match copied {
        Ok(()) => {
            // The copy has the images already.
            start.archives.clear();
            step.done(&key);
            Ok(true)
        }
        Err(e) if e.kind() == Kind::Interrupted => Err(e),
        Err(e) => {
            step.skipped("it cannot be used");
            give_up(start, &e)?;
            Ok(false)
        }
    }
}

fn start_copy(
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
    start.nodes[node]
        .machine
        .ensure_seed(&start.cluster.dir, &[])?;
    drop((shared, span));
    let span = trace::span("copy the keys");
    fsutil::copy_private(&original.pki(), &start.cluster.dir.pki())?;
    pki::forget_operator(&start.cluster.dir.pki())?;
    let shared = start.env.lock_shared()?;
    keys::hand_over(&start.cluster.dir, |to| keys::copy(original, to))?;
    drop(shared);
    start.replace_taken_ports()?;
    drop(span);
    let runs = || start.cluster.dir.machine_runs();
    let machine = &start.nodes[node].machine;
    load::start(machine, &start.cluster, start.acceleration, saved, runs)
}

/// Undoes a copy of a template: the cluster boots instead. The template is removed, and a new one is
/// saved, unless the copy was only too slow for the first time.
pub(super) fn give_up(start: &mut Start<'_>, why: &Error) -> Result<()> {
    let Some(template) = start.template.take() else {
        return Ok(());
    };
    let discard = template.should_discard(why);
    start.env.progress.warn(&format!(
        "the warm template {} cannot be used{} ({why}); booting instead",
        template.key,
        if discard { " and is removed" } else { " now" }
    ));
    for node in &start.nodes {
        node.machine.power_off()?;
    }
    fsutil::remove_all(&start.cluster.dir.pki())?;
    keys::end_handover(&start.cluster.dir)?;
    start.forget_pki();
    let _shared = start.env.lock_shared()?;
    // The seed of a copy brings only its keys; that of a boot more.
    for (node, profile) in start.nodes.iter().zip(&start.cluster.profile.nodes) {
        for volume in [&profile.disk, &node.machine.names.seed] {
            start.host.delete_volume(volume)?;
        }
    }
    if discard {
        fsutil::remove_all(&template.dir.root)?;
        garbage::sweep(start.host, None)?;
        start.template = Some(template);
    } else {
        template.mark_suspect()?;
    }
    Ok(())
}

/// Saves the healthy cluster as a template before the user gets it, so that nothing of theirs is in it.
/// The node has keys of its own for that moment, which the template keeps. A failure to save is a
/// warning.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    let booted = start.nodes.iter().all(|node| node.origin == Origin::Booted);
    let Some(template) = start.template.take().filter(|_| booted && start.created) else {
        return Ok(Flow::Next);
    };
    let step = start.env.progress.step("Save a warm template");
    match save(start, &template, &step) {
        Ok(saved) => {
            let size = saved.memory.map_or(0, |memory| memory.allocated);
            step.done(human_bytes(size));
        }
        Err(e) if e.kind() == Kind::Interrupted => return Err(e),
        Err(e) => {
            step.skipped("not saved");
            let progress = start.env.progress;
            progress.warn(&format!("the next start will boot too: {e}"));
        }
    }
    start.stage("template");
    Ok(Flow::Next)
}

fn save(start: &mut Start<'_>, template: &Template, step: &Step) -> Result<Saved> {
    let (env, limit) = (start.env, start.cluster.deadline(KEYS_LIMIT));
    let borrowed = ProfileDir::at(start.cluster.dir.handover());
    // From here until the node has its own keys back the next start tries both.
    let shared = env.lock_shared()?;
    keys::hand_over(&start.cluster.dir, |to| keys::ensure(to).map(drop))?;
    drop(shared);
    let node = &mut start.nodes[0];
    identity::install(node.session()?, &keys::files(&borrowed)?)?;
    // A server that was saved while it reads its keys would do so in each copy.
    when_keys_are_read(env.backend, &start.cluster.target_with(&borrowed)?, limit)?;
    let save = Save {
        env: &env,
        machine: &node.machine,
        step,
        reason: SaveReason::Keep,
    };
    fsutil::create_private_dir(&env.store.templates_dir())?;
    let saved = save.write(&mut start.cluster, &borrowed, &template.dir);
    identity::install(node.session()?, &keys::files(&start.cluster.dir)?)?;
    keys::end_handover(&start.cluster.dir)?;
    pki::forget_operator(&template.dir.files().pki())?;
    // The next login cannot meet it while it reads them.
    when_keys_are_read(env.backend, &start.cluster.target()?, limit)?;
    saved
}
