//! The doctor finds each planted fault, names it and nothing else, and repairs what it says it can.
//!
//! No machine runs here: the cluster is a stopped one, with a domain, volumes, keys and a context
//! that are as kubby makes them.

mod faults_of_clusters;
mod faults_of_host;
mod leftovers;
mod place;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::env::Env;
use crate::group::Test;
use crate::program::Run;
use place::Place;

pub const TESTS: &[Test] = tests![
    the_doctor_finds_planted_faults,
    the_doctor_leaves_others_alone,
    a_fork_that_was_not_started_is_well,
];

/// On the group's cluster, which runs.
pub const RUNNING: &[Test] = tests![the_doctor_finds_a_running_cluster_well,];

/// The undoing of a fault, as far as the doctor does not do it.
type Undo<'a> = Box<dyn FnOnce() + 'a>;

/// A fault, and what the doctor must say of it.
pub struct Fault<'a> {
    /// The name of the one check that has to find it.
    pub check: &'static str,
    /// Words that its reason has to have.
    pub words: String,
    /// Whether `--fix` must repair it.
    pub fixable: bool,
    /// Whether nothing else is wrong after the repair, before the rest is undone.
    pub whole: bool,
    /// Variables to look under.
    pub env: Vec<(&'static str, String)>,
    /// A shell's script that kubby is run from.
    pub within: Option<&'static str>,
    pub plant: Box<dyn FnOnce() -> Undo<'a> + 'a>,
}

impl<'a> Fault<'a> {
    pub fn new(
        check: &'static str,
        words: impl Into<String>,
        plant: impl FnOnce() -> Undo<'a> + 'a,
    ) -> Self {
        Fault {
            check,
            words: words.into(),
            fixable: false,
            whole: true,
            env: Vec::new(),
            within: None,
            plant: Box::new(plant),
        }
    }

    pub fn fixable(self) -> Self {
        Fault {
            fixable: true,
            ..self
        }
    }

    pub fn under(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    pub fn within(self, script: &'static str) -> Self {
        Fault {
            within: Some(script),
            ..self
        }
    }
}

/// Nothing to undo.
pub fn nothing<'a>() -> Undo<'a> {
    Box::new(|| {})
}

/// A trouble: the check's name and the state, with the reason beside it.
type Troubles = BTreeSet<(String, String)>;

/// Runs the doctor; gives all that it printed, and what troubles it found.
#[track_caller]
fn doctor(place: &Place<'_>, fault: Option<&Fault<'_>>, fix: bool) -> (Value, Troubles) {
    let program: PathBuf = env!("CARGO_BIN_EXE_kubby").into();
    let mut command = match fault.and_then(|fault| fault.within) {
        Some(script) => {
            let mut command = Command::new("unshare");
            command.args(["--net", "--mount", "sh", "-c"]);
            command.arg(format!("{script}\nexec \"$0\" \"$@\""));
            command.arg(program);
            command
        }
        None => Command::new(program),
    };
    place.env.apply(&mut command);
    command.envs(fault.iter().flat_map(|fault| fault.env.clone()));
    command.args(["doctor", "-o", "json"]);
    command.args(fix.then_some("--fix"));
    let run = Run::of(command);
    let result = run.json();
    let findings = result["findings"].as_array().expect("findings");
    let troubles: Troubles = findings
        .iter()
        .filter(|f| f["state"] == "failure" || f["state"] == "warning")
        .map(|f| (text(f, "name"), text(f, "state")))
        .collect();
    let failed = troubles.iter().any(|(_, state)| state == "failure");
    assert_eq!(result["healthy"], !failed);
    run.exits(if failed { 10 } else { 0 });
    (result, troubles)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// The findings of a check that are no good news.
fn of_check<'v>(result: &'v Value, check: &str) -> Vec<&'v Value> {
    let findings = result["findings"].as_array().expect("findings");
    findings
        .iter()
        .filter(|f| f["name"] == check && !["ok", "skipped"].contains(&text(f, "state").as_str()))
        .collect()
}

fn the_doctor_finds_planted_faults(env: &Env) {
    let env = env.elsewhere("doctor");
    let place = Place::make(&env);
    // What is always found on this host, such as that there is no KVM.
    let (result, usual) = doctor(&place, None, false);
    assert_eq!(result["healthy"], true, "{result:#}");
    let (mut planted, mut found, mut repaired) = (0, 0, 0);
    let faults = faults_of_host::all(&place)
        .into_iter()
        .chain(faults_of_clusters::all(&place))
        .chain(leftovers::all(&place));
    for mut fault in faults {
        let what = format!("{}: {}", fault.check, fault.words);
        let plant = std::mem::replace(&mut fault.plant, Box::new(nothing));
        let undo = plant();
        planted += 1;
        let (result, troubles) = doctor(&place, Some(&fault), false);
        let new: Vec<_> = troubles.difference(&usual).collect();
        let names: BTreeSet<&str> = new.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, BTreeSet::from([fault.check]), "{what}\n{result:#}");
        let found_by_it = of_check(&result, fault.check);
        let named = found_by_it
            .iter()
            .find(|f| text(f, "reason").contains(&fault.words))
            .unwrap_or_else(|| panic!("{what}: {found_by_it:#?}"));
        assert!(!text(named, "remedy").is_empty(), "{what}: {named:#}");
        assert_eq!(named["fixable"], fault.fixable, "{what}: {named:#}");
        found += 1;
        if fault.fixable {
            let (result, after) = doctor(&place, Some(&fault), true);
            let repairs = result["repairs"].as_array().expect("repairs");
            let done = |r: &&Value| r["name"] == fault.check && r["done"] == true;
            assert!(repairs.iter().any(|r| done(&r)), "{what}\n{result:#}");
            let rest: Vec<_> = after.difference(&usual).collect();
            assert!(
                !fault.whole || rest.is_empty(),
                "{what}: {rest:?}\n{result:#}"
            );
            repaired += 1;
        }
        undo();
        // Looking under the fault's own variables is what would show it again.
        let under = fault.fixable.then_some(&fault);
        let (result, after) = doctor(&place, under, false);
        let rest: Vec<_> = after.difference(&usual).collect();
        assert!(rest.is_empty(), "{what} is left: {rest:?}\n{result:#}");
    }
    note!("{planted} faults planted, {found} found, {repaired} repaired");
    assert!(planted >= 12 && found == planted, "{planted} {found}");
    place.remove();
}

/// Things of another home, the user's own, and those locked by another kubby stay, whatever the
/// doctor repairs beside them.
fn the_doctor_leaves_others_alone(env: &Env) {
    let env = env.elsewhere("doctor");
    let place = Place::make(&env);
    let (_, usual) = doctor(&place, None, false);
    let others = leftovers::of_others(&place);
    let name = place.other_name("locked");
    let domain = place.define_domain(&name, &env.home(), &place.disk());
    let held = place.store.lock_profile(&name, |_| {}).expect("the lock");
    let (result, troubles) = doctor(&place, None, true);
    assert_eq!(troubles, usual, "{result:#}");
    assert_eq!(result["repairs"], serde_json::json!([]), "{result:#}");
    others.check();
    assert!(place.has_domain(&domain), "it is locked");
    drop(held);
    place.volume("base-dead.qcow2");
    let (result, troubles) = doctor(&place, None, true);
    assert_eq!(troubles, usual, "{result:#}");
    assert!(!place.has_domain(&domain), "no process holds it now");
    assert!(!place.volumes().contains(&"base-dead.qcow2".to_owned()));
    others.check();
    // A pool without a mark, which an earlier kubby made, with another home's disk in it.
    place.remove_mark();
    others.move_in();
    place.volume("base-theirs.qcow2");
    let (result, _) = doctor(&place, None, true);
    let refused = of_check(&result, "pool");
    let refused = refused.iter().map(|finding| text(finding, "reason"));
    let refused: Vec<String> = refused.collect();
    assert!(refused[0].contains("their-home has the disk"), "{result:#}");
    assert!(place.volumes().contains(&"base-theirs.qcow2".to_owned()));
    // Nor do other commands sweep it away.
    let prune = env.kubby(&["template", "prune"]).exits(15);
    prune.says("their-home has the disk");
    assert!(place.volumes().contains(&"base-theirs.qcow2".to_owned()));
    others.remove();
    env.kubby(&["template", "prune"]).ok();
    assert!(!place.volumes().contains(&"base-theirs.qcow2".to_owned()));
    place.remove();
}

/// It has no machine and no operator of its own yet, and needs what it builds on.
fn a_fork_that_was_not_started_is_well(env: &Env) {
    let env = env.elsewhere("doctor");
    let place = Place::make(&env);
    let (_, usual) = doctor(&place, None, false);
    let fork = place.other_name("fork");
    env.kubby_on(
        place.name.as_str(),
        &["fork", fork.as_str(), "--keep-context", "--no-start"],
    )
    .ok();
    let volumes = place.volumes();
    let status = env.kubby_on(fork.as_str(), &["status", "-o", "json"]).ok();
    assert_eq!(status.json()["host"], "Stopped");
    let (result, troubles) = doctor(&place, None, true);
    assert_eq!(troubles, usual, "{result:#}");
    assert_eq!(place.volumes(), volumes);
    env.kubby_on(fork.as_str(), &["delete"]).ok();
    place.remove();
}

fn the_doctor_finds_a_running_cluster_well(env: &Env) {
    let run = env.kubby(&["doctor", "-o", "json"]).ok();
    let result = run.json();
    assert_eq!(result["healthy"], true, "{result:#}");
    let findings = result["findings"].as_array().expect("findings");
    let says = |name: &str, words: &str| {
        let fits = |f: &&Value| f["name"] == name && text(f, "reason").contains(words);
        assert!(
            findings.iter().any(|f| fits(&f)),
            "{name} {words}\n{result:#}"
        );
    };
    says("clusters", &format!("`{}`: Running", env.profile));
    says("certificates", &env.profile);
    // A run that came to its end leaves nothing.
    for finding in findings {
        let leftover = text(finding, "name").starts_with("leftover");
        assert!(!leftover || finding["fixable"] == false, "{finding:#}");
    }
    let people = env.kubby(&["doctor"]).ok();
    people.prints("ok       clusters").prints("0 failures");
    note!("a look: {:.2} s", run.took.as_secs_f64());
}
