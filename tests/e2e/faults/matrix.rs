//! The fault matrix: kubby is ended at places that change something, and the next `start` completes, or
//! `delete` leaves nothing.
//!
//! Every place of every command is tried in memory, by the life cycle's own tests. Here it is a sample
//! on real machines: each call to libvirt that a command makes, once, and one in eight of the rest.
//! `KUBBY_E2E_ALL_FAULTS=1` takes all.

use std::collections::BTreeSet;

use super::places::{Fault, end_at, passed};
use super::world::World;
use crate::env::Env;
use crate::group::Test;
use crate::saving::{ensure_template, healthy, host, named};

pub const TESTS: &[Test] = tests![
    starts_are_ended_before_the_machine,
    deletes_are_ended,
    warm_starts_are_ended,
    stops_are_ended,
    other_commands_are_ended,
    cold_starts_are_ended.long(),
];

/// The calls that change something in libvirt or QEMU, as `src/hypervisor/libvirt/mod.rs` names them.
const CALLS: [&str; 22] = [
    "add a forward",
    "define",
    "delete a volume",
    "destroy",
    "load memory",
    "make a state file",
    "make the channel",
    "make the overlay",
    "make the pool",
    "pause",
    "remove a forward",
    "remove the channel",
    "remove the pool",
    "resume",
    "save memory",
    "shut down",
    "start",
    "switch the disk",
    "tell",
    "undefine",
    "upload",
    "upload bytes",
];

/// Returns the places that are tried of those that a command passes.
fn sample(places: &[String]) -> Vec<String> {
    if std::env::var_os("KUBBY_E2E_ALL_FAULTS").is_some() {
        return places.to_vec();
    }
    let (mut calls, mut others) = (BTreeSet::new(), 0);
    let is_taken = |place: &&String| {
        let (when, what) = place.split_once(' ').expect("two words");
        let call = what.split('#').next().unwrap_or(what);
        if CALLS.contains(&call) {
            return calls.insert((when.to_owned(), call.to_owned()));
        }
        others += 1;
        others % 8 == 0
    };
    places.iter().filter(is_taken).cloned().collect()
}

/// The places at which a command was ended, and what came of it.
struct Cases<'a> {
    env: &'a Env,
    before: World,
    count: usize,
    unrecoverable: Vec<String>,
    leftovers: Vec<String>,
}

impl<'a> Cases<'a> {
    fn new(env: &'a Env) -> Self {
        Cases {
            env,
            before: World::of(env),
            count: 0,
            unrecoverable: Vec::new(),
            leftovers: Vec::new(),
        }
    }

    fn count(&mut self, case: &str, outcome: Result<(), String>) {
        note!("{case}");
        self.count += 1;
        if let Err(why) = outcome {
            note!("{case}: {why}");
            self.unrecoverable.push(format!("{case}: {why}"));
        }
    }

    fn compare(&mut self, case: &str) {
        let left = World::of(self.env).difference(&self.before);
        if !left.is_empty() {
            self.leftovers.push(format!("{case}: {left:#?}"));
        }
    }

    /// Checks that each case ended well, and that there were as many as the sample is to have.
    #[track_caller]
    fn are_clean(&self, at_least: usize) {
        note!("{} places", self.count);
        assert!(self.unrecoverable.is_empty(), "{:#?}", self.unrecoverable);
        assert!(self.leftovers.is_empty(), "{:#?}", self.leftovers);
        assert!(self.count >= at_least, "{} places", self.count);
    }
}

/// Runs a command that has to end well.
fn well(env: &Env, profile: &str, args: &[&str]) -> Result<(), String> {
    let run = env.kubby_on(profile, args);
    if run.code == 0 {
        return Ok(());
    }
    Err(format!("{args:?} ended with {}\n{}", run.code, run.stderr))
}

const COLD: &[&str] = &["start", "--no-template", "--keep-context"];
const WARM: &[&str] = &["start", "--keep-context"];
const MACHINE_RUNS: &str = "after start";

/// Everything up to the machine's start, on a real libvirt. What was cut short is deleted, or first
/// brought further by another start.
fn starts_are_ended_before_the_machine(env: &Env) {
    ensure_template(env);
    let name = named(env, "m");
    let mut cases = Cases::new(env);
    let places = passed(env, &name, COLD, Some(MACHINE_RUNS));
    well(env, &name, &["delete"]).expect("it can be deleted");
    let places = sample(&places);
    let faults = [
        Fault::Kill,
        Fault::Kill,
        Fault::Kill,
        Fault::Int,
        Fault::Kill,
        Fault::Term,
    ];
    for (i, place) in places.iter().enumerate() {
        let fault = faults[i % faults.len()];
        let case = format!("cold start, {place} {fault:?}");
        // After a signal that is waited for, a machine that boots would take its time.
        let outcome = if fault == Fault::Kill || !place.starts_with(MACHINE_RUNS) {
            end_at(env, &name, COLD, place, fault)
        } else {
            Ok(())
        };
        let outcome = outcome.and_then(|()| {
            if i % 2 == 0 && place != &places[places.len() - 1] {
                end_at(env, &name, COLD, MACHINE_RUNS, Fault::Kill)?;
            }
            well(env, &name, &["delete"])
        });
        cases.count(&case, outcome);
        cases.compare(&case);
    }
    cases.are_clean(10);
}

/// The deletion of a machine that has just started is cut short.
fn deletes_are_ended(env: &Env) {
    ensure_template(env);
    let name = named(env, "m");
    let mut cases = Cases::new(env);
    let begin = || end_at(env, &name, COLD, MACHINE_RUNS, Fault::Kill);
    begin().expect("a machine that runs");
    let places = passed(env, &name, &["delete"], None);
    for place in sample(&places) {
        let case = format!("delete, {place} Kill");
        let outcome = begin()
            .and_then(|()| end_at(env, &name, &["delete"], &place, Fault::Kill))
            .and_then(|()| well(env, &name, &["delete"]));
        cases.count(&case, outcome);
        cases.compare(&case);
    }
    cases.are_clean(5);
}

/// Starts from the template are cut short; the next one completes.
fn warm_starts_are_ended(env: &Env) {
    ensure_template(env);
    let name = named(env, "m");
    let mut cases = Cases::new(env);
    let places = passed(env, &name, WARM, None);
    well(env, &name, &["delete"]).expect("it can be deleted");
    for (i, place) in sample(&places).iter().enumerate() {
        let fault = if i % 5 == 4 { Fault::Int } else { Fault::Kill };
        let case = format!("warm start, {place} {fault:?}");
        let outcome = end_at(env, &name, WARM, place, fault)
            .and_then(|()| well(env, &name, WARM))
            .and_then(|()| well(env, &name, &["status", "--exit-code"]))
            .and_then(|()| well(env, &name, &["delete"]));
        cases.count(&case, outcome);
        cases.compare(&case);
    }
    cases.are_clean(10);
}

/// Stops are cut short; the next one completes. That a start brings a stopped cluster back is tested
/// elsewhere: it takes a boot.
fn stops_are_ended(env: &Env) {
    ensure_template(env);
    let name = named(env, "m");
    let mut cases = Cases::new(env);
    well(env, &name, WARM).expect("a cluster");
    let places = passed(env, &name, &["stop"], None);
    well(env, &name, &["delete"]).expect("it can be deleted");
    for place in sample(&places) {
        let case = format!("stop, {place} Kill");
        let outcome = well(env, &name, WARM)
            .and_then(|()| end_at(env, &name, &["stop"], &place, Fault::Kill))
            .and_then(|()| well(env, &name, &["stop"]))
            .and_then(|()| match host(env, &name).as_str() {
                "Stopped" => Ok(()),
                other => Err(format!("it is {other}")),
            })
            .and_then(|()| well(env, &name, &["delete"]));
        cases.count(&case, outcome);
        cases.compare(&case);
    }
    cases.are_clean(2);
}

/// Suspend, snapshot and fork are cut short; the next start brings the cluster back with its data.
fn other_commands_are_ended(env: &Env) {
    ensure_template(env);
    let (name, fork) = (named(env, "m"), named(env, "mf"));
    let mut cases = Cases::new(env);
    well(env, &name, WARM).expect("a cluster");
    let create = ["kubectl", "--", "create", "namespace", "kept"];
    well(env, &name, &create).expect("a namespace");
    let kept = || well(env, &name, &["kubectl", "--", "get", "namespace", "kept"]);
    // Saving is the same in all three: the places of the others are some of what they do besides.
    let commands: [(&[&str], &[&str], usize); 3] = [
        (&["suspend"], &[], 1),
        (&["snapshot", "save", "s"], &["snapshot", "delete", "s"], 5),
        (
            &["fork", &fork, "--keep-context"],
            &["delete", "-p", &fork],
            5,
        ),
    ];
    for (command, undo, one_in) in commands {
        let places = passed(env, &name, command, None);
        if !undo.is_empty() {
            well(env, &name, undo).expect("undone");
        }
        for place in sample(&places).iter().step_by(one_in) {
            let case = format!("{}, {place} Kill", command.join(" "));
            let outcome = well(env, &name, WARM)
                .and_then(|()| end_at(env, &name, command, place, Fault::Kill))
                .and_then(|()| well(env, &name, WARM))
                .and_then(|()| kept())
                // It is there or not, and goes either way.
                .map(|()| {
                    if !undo.is_empty() {
                        env.kubby_on(&name, undo);
                    }
                });
            cases.count(&case, outcome);
        }
    }
    well(env, &name, &["delete"]).expect("it can be deleted");
    cases.compare("other commands");
    cases.are_clean(8);
}

/// One cluster is made from cold by starts of which each gets a little further than the one before.
fn cold_starts_are_ended(env: &Env) {
    ensure_template(env);
    let name = named(env, "m");
    let mut cases = Cases::new(env);
    let places = [
        "after start",
        "before a command in the node",
        "after a command in the node",
        "after a command in the node#2",
        "before a command in the node#4",
        "after a command in the node#5",
        "after apply an object",
        "before apply an object#9",
        "after apply an object#13",
        "after a command in the node#8",
        "after a command in the node#11",
        "after change an object",
        "staged write the kubeconfig",
        "after write the kubeconfig",
    ];
    let mut reached = 0;
    for place in places {
        let case = format!("cold start on, {place} Kill");
        match end_at(env, &name, COLD, place, Fault::Kill) {
            Ok(()) => {
                reached += 1;
                cases.count(&case, Ok(()));
            }
            // It had done that before, so that it came to its end.
            Err(why) if why.contains("exit status: 0") => {}
            Err(why) => cases.count(&case, Err(why)),
        }
    }
    well(env, &name, COLD).expect("the last start completes");
    healthy(env, &name);
    assert!(reached >= 8, "{reached} of {} places reached", places.len());
    well(env, &name, &["delete"]).expect("it can be deleted");
    cases.compare("cold starts");
    cases.are_clean(8);
}
