//! End to end: real libvirt, a real virtual machine, a real Kubernetes, the real kubectl.
//!
//! One cluster lives through the tests in their order, as it does with a user. `scripts/test`
//! runs this with what it needs; without libvirt or as a plain `cargo test` it says so and runs
//! nothing. Set `KUBBY_E2E=1` to run it by hand, and `KUBBY_E2E_LONG=1` for the tests that take
//! many minutes, which are skipped otherwise. With `KUBBY_E2E_SECONDS=N` those that would begin
//! later than that are skipped, but for the last, which look for what is left.

#![expect(clippy::print_stderr, reason = "timings are for the reader of the log")]

#[path = "../archive_samples/mod.rs"]
mod archive_samples;
mod bad_input;
mod bundle;
mod certs;
mod cluster;
mod dashboard;
mod doctor;
mod egress;
mod env;
mod exercises;
mod failures;
mod faults;
mod image;
mod images;
mod lifecycle;
mod looking;
mod ordinary;
mod outside;
mod run;
mod saving;
mod services;
mod trust;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};

use env::Env;

/// When no further test may begin, where the user has said so.
fn time_is_up() -> Option<Instant> {
    let seconds = std::env::var("KUBBY_E2E_SECONDS").ok()?;
    let seconds = seconds.parse().expect("KUBBY_E2E_SECONDS is a number");
    Some(Instant::now() + Duration::from_secs(seconds))
}

fn main() {
    let args = Arguments::from_args();
    if std::env::var_os("KUBBY_E2E").is_none_or(|v| v != "1") {
        eprintln!(
            "The end-to-end tests boot virtual machines: scripts/test runs them, or KUBBY_E2E=1."
        );
        libtest_mimic::run(&args, Vec::new()).exit();
    }
    let env = Arc::new(Env::new());
    let mut trials: Vec<Trial> = Vec::new();
    let tests = bad_input::TESTS
        .iter()
        .chain(doctor::TESTS)
        .chain(failures::TESTS)
        .chain(lifecycle::BEFORE)
        .chain(doctor::LATER)
        .chain(looking::TESTS)
        .chain(cluster::TESTS)
        .chain(dashboard::TESTS)
        .chain(services::TESTS)
        .chain(trust::network::TESTS)
        .chain(trust::host::TESTS)
        .chain(egress::TESTS)
        .chain(images::TESTS)
        .chain(exercises::images::TESTS)
        .chain(exercises::database::TESTS)
        .chain(exercises::workloads::TESTS)
        .chain(exercises::addons::TESTS)
        .chain(exercises::database::LATER)
        .chain(saving::fork::TESTS)
        .chain(lifecycle::STOP)
        .chain(exercises::database::AFTER)
        .chain(saving::templates::TESTS)
        .chain(faults::matrix::LONG)
        .chain(faults::matrix::TESTS)
        .chain(faults::crowd::TESTS)
        .chain(faults::disrupted::LONG)
        .chain(faults::disrupted::TESTS)
        .chain(faults::power::TESTS)
        .chain(certs::TESTS)
        .chain(certs::LONG)
        .chain(certs::LAST)
        .chain(saving::portable::TESTS)
        .chain(run::TESTS)
        .chain(trust::secrets::STARTING)
        .chain(saving::templates::LATER)
        .chain(saving::states::TESTS)
        .chain(saving::resting::AFTER)
        .chain(saving::killed::TESTS)
        .chain(ordinary::TESTS)
        .chain(lifecycle::AFTER);
    let long = certs::LONG.iter().chain(faults::disrupted::LONG);
    let long = long.chain(faults::matrix::LONG);
    let long: Vec<_> = long.map(|(name, _)| *name).collect();
    let all = std::env::var_os("KUBBY_E2E_LONG").is_some_and(|v| v == "1");
    let end = time_is_up();
    // Set where a test was left out or failed: what it would have taken away may be there.
    let untidy = Arc::new(AtomicBool::new(false));
    for (name, test) in tests {
        let (env, untidy) = (Arc::clone(&env), Arc::clone(&untidy));
        let last = lifecycle::AFTER.iter().any(|(last, _)| last == name);
        let end = end.filter(|_| !last);
        let trial = Trial::ignorable_test(*name, move || {
            let began = Instant::now();
            if end.is_some_and(|end| began > end) {
                eprintln!("  {name}: NOT RUN, the time for the tests is up");
                untidy.store(true, Ordering::Relaxed);
                return Ok(Completion::ignored_with("the time is up"));
            }
            if last && untidy.swap(false, Ordering::Relaxed) {
                lifecycle::tidy(&env);
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&env))) {
                untidy.store(true, Ordering::Relaxed);
                resume_unwind(panic);
            }
            eprintln!("  {name}: {:.1} s", began.elapsed().as_secs_f64());
            Ok(Completion::Completed)
        });
        trials.push(trial.with_ignored_flag(long.contains(name) && !all));
    }
    // In order and one at a time: later tests work on what earlier ones made.
    let args = Arguments {
        test_threads: Some(1),
        ..args
    };
    let conclusion = libtest_mimic::run(&args, trials);
    env.clean_up();
    conclusion.exit();
}
