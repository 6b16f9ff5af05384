//! The life cycle's commands as a user knows them, and the sequences that once failed.

use super::scenario::{Command, Scenario};
use crate::error::Kind;
use crate::name::ProfileName;
use crate::process::simulated::KillAt;

const START: Command = Command::Start {
    addons: false,
    boot: false,
};
const STOP: Command = Command::Stop { force: false };

fn name(name: &str) -> ProfileName {
    name.parse().unwrap()
}

/// Runs commands of the first home, each of which has to succeed.
fn run(scenario: &mut Scenario, commands: &[(&str, Command)]) {
    for (cluster, command) in commands {
        let result = scenario.step(0, &name(cluster), command, None).0.unwrap();
        assert!(result.is_ok(), "{command:?} {cluster}: {result:?}");
    }
}

/// Runs a command of the first home that is killed at a place.
fn kill(scenario: &mut Scenario, cluster: &str, command: &Command, place: &str) {
    let kill_at = Some(KillAt::Place(place.to_owned()));
    let result = scenario.step(0, &name(cluster), command, kill_at).0;
    assert!(result.is_none(), "{command:?} has not passed `{place}`");
}

/// Ends a scenario: all is deleted, and nothing is left.
fn end(mut scenario: Scenario) {
    for home in 0..scenario.homes.len() {
        scenario.clean(home);
    }
    scenario.check_untouched();
}

/// Returns whether a cluster's machine runs on saved memory.
fn is_mapped(scenario: &Scenario, cluster: &str) -> bool {
    let domain = name(cluster).resource_name();
    let mut state = scenario.world.state();
    state.run(&domain).unwrap().mapped.is_some()
}

#[test]
fn a_life_cycle_leaves_nothing() {
    let snapshot = || "s".parse().unwrap();
    let fork = Command::Fork {
        new: name("b"),
        from: None,
    };
    // What each start has to find is checked with each step.
    let commands = [
        (
            "a",
            Command::Start {
                addons: true,
                boot: false,
            },
        ),
        ("a", STOP),
        ("a", START),
        ("a", Command::Suspend),
        ("a", Command::Resume),
        ("a", Command::Save(snapshot())),
        ("a", Command::Pause),
        ("a", Command::Resume),
        ("a", Command::Restore(snapshot())),
        ("a", START),
        ("a", fork),
        ("b", START),
        ("a", Command::DeleteSnapshot(snapshot())),
        ("a", Command::RenewCertificates),
        ("c", Command::Run { keep: false }),
        ("a", Command::Repair),
        ("a", Command::Prune { every: false }),
        ("a", Command::Delete),
    ];
    let mut scenario = Scenario::new(1);
    run(&mut scenario, &commands);
    assert_eq!(scenario.clusters(0), [name("b")]);
    end(scenario);
}

#[test]
fn a_second_cluster_is_a_copy_of_the_first_ones_template() {
    let mut scenario = Scenario::new(1);
    run(&mut scenario, &[("a", START), ("b", START)]);
    assert!(!is_mapped(&scenario, "a") && is_mapped(&scenario, "b"));
    end(scenario);
}

#[test]
fn a_name_that_another_home_or_a_stranger_has_is_refused() {
    let mut scenario = Scenario::new(2);
    run(&mut scenario, &[("b", START)]);
    for (home, cluster) in [(1, "b"), (1, "taken")] {
        let result = scenario.step(home, &name(cluster), &START, None).0;
        assert_eq!(result.unwrap().unwrap_err().kind(), Kind::State);
    }
    end(scenario);
}

#[test]
fn doctor_removes_what_killed_commands_left() {
    for place in [
        "after define#1",
        "unmarked upload#3",
        "after write profile.toml#1",
    ] {
        let mut scenario = Scenario::new(1);
        kill(&mut scenario, "a", &START, place);
        run(&mut scenario, &[("a", Command::Repair), ("a", START)]);
        end(scenario);
    }
}

#[test]
fn the_unfinished_record_of_the_pools_name_does_not_stay() {
    let mut scenario = Scenario::new(1);
    kill(&mut scenario, "a", &START, "staged write pool-name#1");
    end(scenario);
}

#[test]
fn a_start_completes_after_one_that_was_killed_while_it_made_the_templates_keys() {
    // The cluster's own keys come first.
    for place in ["after write host_ed25519#2", "after write id_ed25519#2"] {
        let mut scenario = Scenario::new(1);
        kill(&mut scenario, "a", &START, place);
        run(&mut scenario, &[("a", START)]);
        end(scenario);
    }
}

#[test]
fn a_cluster_that_never_ran_is_not_saved() {
    let save = Command::Save("s".parse().unwrap());
    let mut scenario = Scenario::new(1);
    kill(&mut scenario, "a", &START, "after make the overlay#1");
    let result = scenario.step(0, &name("a"), &save, None).0;
    let error = result.unwrap().unwrap_err();
    assert!(error.message().contains("has no disk yet"), "{error}");
    run(&mut scenario, &[("a", START)]);
    end(scenario);
}

#[test]
fn a_prune_completes_one_that_was_killed() {
    let prune = || Command::Prune { every: true };
    let mut scenario = Scenario::new(1);
    run(&mut scenario, &[("a", Command::Run { keep: false })]);
    kill(&mut scenario, "a", &prune(), "after delete a volume#1");
    run(&mut scenario, &[("a", prune())]);
    super::invariants::check_gone(&scenario.homes[0].operator);
    end(scenario);
}

#[test]
fn a_disk_that_was_frozen_by_a_killed_process_is_not_saved_again() {
    let save = |snapshot: &str| Command::Save(snapshot.parse().unwrap());
    let mut scenario = Scenario::new(1);
    run(&mut scenario, &[("a", START)]);
    kill(&mut scenario, "a", &save("s"), "after switch the disk#1");
    // The profile names the frozen disk, and the machine runs on another.
    run(&mut scenario, &[("a", START), ("a", STOP), ("a", START)]);
    kill(&mut scenario, "a", &save("s"), "after switch the disk#1");
    run(&mut scenario, &[("a", save("t"))]);
    let restore = Command::Restore("t".parse().unwrap());
    run(&mut scenario, &[("a", restore), ("a", START)]);
    assert!(is_mapped(&scenario, "a"), "the snapshot's memory is used");
    kill(&mut scenario, "a", &save("u"), "after switch the disk#1");
    run(&mut scenario, &[("a", Command::Suspend), ("a", START)]);
    assert!(is_mapped(&scenario, "a"), "the suspended memory is used");
    end(scenario);
}
