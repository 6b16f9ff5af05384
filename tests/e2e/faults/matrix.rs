//! The fault matrix: kubby is ended at every place that changes something, and the next `start`
//! completes, or `delete` leaves nothing.

use std::sync::Mutex;

use super::places::{Fault, end_at, passed};
use super::world::World;
use crate::env::{Env, Test};
use crate::saving::{healthy, named};

pub const TESTS: &[Test] = &[
    ("starts_are_ended_before_the_machine", before_the_machine),
    ("deletes_are_ended", deletes),
    ("warm_starts_are_ended", warm_starts),
    ("other_commands_are_ended", other_commands),
    ("the_fault_matrix_is_clean", is_clean),
];

/// A cold start more.
pub const LONG: &[Test] = &[("cold_starts_are_ended", cold_starts)];

/// What was tried, and what came of it.
#[derive(Default)]
struct Matrix {
    cases: u32,
    on_machines: u32,
    unrecoverable: Vec<String>,
    leftovers: Vec<String>,
}

static MATRIX: Mutex<Matrix> = Mutex::new(Matrix {
    cases: 0,
    on_machines: 0,
    unrecoverable: Vec::new(),
    leftovers: Vec::new(),
});

impl Matrix {
    fn count(&mut self, on_machine: bool, case: &str, outcome: Result<(), String>) {
        eprintln!("  {case}");
        self.cases += 1;
        self.on_machines += u32::from(on_machine);
        if let Err(why) = outcome {
            eprintln!("  {case}: {why}");
            self.unrecoverable.push(case.to_owned());
        }
    }

    fn compare(&mut self, env: &Env, before: &World, case: &str) {
        let left = World::of(env).difference(before);
        if !left.is_empty() {
            eprintln!("  {case}: {left:#?}");
            self.leftovers.push(case.to_owned());
        }
    }
}

fn matrix() -> std::sync::MutexGuard<'static, Matrix> {
    MATRIX
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A command that has to end well.
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

/// Keys and certificates are made and copied one by one, each in the same way: of those, one in so
/// many is taken.
fn some_files(places: &[String], one_in: usize) -> Vec<String> {
    let mut files = 0;
    let keep = |place: &&String| {
        let is_file = [".key", ".crt", ".pub"].iter().any(|e| place.contains(e));
        files += usize::from(is_file);
        !is_file || files % one_in == 0
    };
    places.iter().filter(keep).cloned().collect()
}

/// All are taken where `KUBBY_E2E_ALL_FAULTS` is set.
fn sampling(one_in: usize) -> usize {
    match std::env::var_os("KUBBY_E2E_ALL_FAULTS") {
        Some(_) => 1,
        None => one_in,
    }
}

/// Everything up to the machine's begin, on a real libvirt. What was cut short is deleted, or
/// first brought further by another start.
fn before_the_machine(env: &Env) {
    let name = named(env, "m");
    let world = World::of(env);
    let places = passed(env, &name, COLD, Some(MACHINE_RUNS));
    well(env, &name, &["delete"]).expect("it can be deleted");
    let places = some_files(&places, sampling(5));
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
        // After a signal that is waited for, a machine that booted would take its time.
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
        let mut matrix = matrix();
        matrix.count(false, &case, outcome);
        matrix.compare(env, &world, &case);
    }
    eprintln!("  {} places", places.len());
}

/// A machine that has just begun is deleted, and that is cut short.
fn deletes(env: &Env) {
    let name = named(env, "m");
    let world = World::of(env);
    let begin = || end_at(env, &name, COLD, MACHINE_RUNS, Fault::Kill);
    begin().expect("a machine that runs");
    let places = passed(env, &name, &["delete"], None);
    for place in &places {
        let case = format!("delete, {place} Kill");
        let outcome = begin()
            .and_then(|()| end_at(env, &name, &["delete"], place, Fault::Kill))
            .and_then(|()| well(env, &name, &["delete"]));
        let mut matrix = matrix();
        matrix.count(true, &case, outcome);
        matrix.compare(env, &world, &case);
    }
    eprintln!("  {} places", places.len());
}

/// Starts from the warm template are cut short; the next one completes.
fn warm_starts(env: &Env) {
    let name = named(env, "m");
    let world = World::of(env);
    let places = passed(env, &name, WARM, None);
    well(env, &name, &["delete"]).expect("it can be deleted");
    let places: Vec<_> = some_files(&places, sampling(12))
        .into_iter()
        .step_by(sampling(3))
        .collect();
    for (i, place) in places.iter().enumerate() {
        let fault = if i % 5 == 4 { Fault::Int } else { Fault::Kill };
        let case = format!("warm start, {place} {fault:?}");
        let outcome = end_at(env, &name, WARM, place, fault)
            .and_then(|()| well(env, &name, WARM))
            .and_then(|()| well(env, &name, &["status", "--exit-code"]))
            .and_then(|()| well(env, &name, &["delete"]));
        let mut matrix = matrix();
        matrix.count(true, &case, outcome);
        matrix.compare(env, &world, &case);
    }
    eprintln!("  {} places", places.len());
}

/// One cluster is made from cold by starts of which each gets a little further than the one
/// before.
fn cold_starts(env: &Env) {
    let name = named(env, "m");
    let world = World::of(env);
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
                matrix().count(true, &case, Ok(()));
            }
            // It had done that before, so that it came to its end.
            Err(why) if why.contains("exit status: 0") => {}
            Err(why) => matrix().count(true, &case, Err(why)),
        }
    }
    well(env, &name, COLD).expect("the last start completes");
    healthy(env, &name);
    eprintln!("  {reached} of {} places reached", places.len());
    assert!(reached >= 8, "{reached} places reached");
    well(env, &name, &["delete"]).expect("it can be deleted");
    matrix().compare(env, &world, "cold starts");
}

/// Stop, suspend, wake, snapshots and forks are cut short; the next start brings the cluster back
/// with its data.
fn other_commands(env: &Env) {
    let (name, fork) = (named(env, "m"), named(env, "mf"));
    let world = World::of(env);
    well(env, &name, WARM).expect("a cluster");
    let create = ["kubectl", "--", "create", "namespace", "kept"];
    well(env, &name, &create).expect("a namespace");
    let kept = || well(env, &name, &["kubectl", "--", "get", "namespace", "kept"]);
    let commands: [(&[&str], &[&str]); 3] = [
        (&["suspend"], &[]),
        (&["snapshot", "save", "s"], &["snapshot", "delete", "s"]),
        (&["fork", &fork, "--keep-context"], &["delete", "-p", &fork]),
    ];
    let mut count = 0;
    for (command, undo) in commands {
        let places = passed(env, &name, command, None);
        if !undo.is_empty() {
            well(env, &name, undo).expect("undone");
        }
        let places = places.iter().filter(|p| {
            !p.contains(" copy ") && !p.contains(" write ") && !p.contains("in the node")
        });
        for place in places.step_by(sampling(5)) {
            count += 1;
            let case = format!("{}, {place} Kill", command.join(" "));
            let outcome = well(env, &name, WARM)
                .and_then(|()| end_at(env, &name, command, place, Fault::Kill))
                .and_then(|()| well(env, &name, WARM))
                .and_then(|()| kept())
                // It is there or not, and goes either way.
                .map(|()| drop(env.kubby_on(&name, undo)));
            matrix().count(true, &case, outcome);
        }
    }
    eprintln!("  {count} places");
    well(env, &name, &["delete"]).expect("it can be deleted");
    matrix().compare(env, &world, "other commands");
}

fn is_clean(_: &Env) {
    let matrix = matrix();
    eprintln!(
        "  fault matrix: {} points × faults, {} of them on machines: {} unrecoverable, {} leftovers",
        matrix.cases,
        matrix.on_machines,
        matrix.unrecoverable.len(),
        matrix.leftovers.len()
    );
    assert!(
        matrix.unrecoverable.is_empty(),
        "{:#?}",
        matrix.unrecoverable
    );
    assert!(matrix.leftovers.is_empty(), "{:#?}", matrix.leftovers);
    assert!(matrix.cases >= 60 && matrix.on_machines >= 15);
}
