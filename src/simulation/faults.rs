//! Each place at which a command can be killed, one after the other: afterwards the cluster starts, or
//! `delete` leaves nothing.

use super::scenario::{Command, Scenario};
use crate::name::ProfileName;
use crate::process::simulated::KillAt;

/// The command after the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Start,
    Delete,
}

/// Kills a command at each of its places, after the commands `before` it.
fn kill_everywhere(before: &[(&str, Command)], name: &str, command: &Command) {
    let name: ProfileName = name.parse().unwrap();
    for number in 1.. {
        // In turns, for half the time; the sequences have the others.
        let after = match number % 2 {
            0 => After::Start,
            _ => After::Delete,
        };
        let mut scenario = Scenario::new(1);
        for (name, command) in before {
            let done = scenario.step(0, &name.parse().unwrap(), command, None).0;
            done.unwrap().unwrap();
        }
        let kill_at = Some(KillAt::Number(number));
        let result = scenario.step(0, &name, command, kill_at).0;
        let context = format!("{command:?} killed at {number}, then {after:?}");
        if after == After::Start {
            for name in scenario.clusters(0) {
                let start = Command::Start {
                    addons: false,
                    boot: false,
                };
                let started = scenario.step(0, &name, &start, None).0.unwrap();
                assert!(started.is_ok(), "{context}: {started:?}");
            }
        }
        scenario.clean(0);
        scenario.check_untouched();
        if result.is_some() {
            assert!(number > 1, "the command has passed no place");
            return;
        }
    }
}

const START: Command = Command::Start {
    addons: false,
    boot: false,
};

fn snapshot() -> crate::name::SnapshotName {
    "s".parse().unwrap()
}

#[test]
fn a_first_start_can_be_killed_anywhere() {
    kill_everywhere(
        &[],
        "a",
        &Command::Start {
            addons: true,
            boot: false,
        },
    );
}

#[test]
fn a_start_from_a_template_can_be_killed_anywhere() {
    kill_everywhere(&[("b", START)], "a", &START);
}

#[test]
fn a_start_after_a_stop_can_be_killed_anywhere() {
    let stop = Command::Stop { force: false };
    kill_everywhere(&[("a", START), ("a", stop)], "a", &START);
}

#[test]
fn suspending_and_resuming_can_be_killed_anywhere() {
    kill_everywhere(&[("a", START)], "a", &Command::Suspend);
    let before = [("a", START), ("a", Command::Suspend)];
    kill_everywhere(&before, "a", &Command::Resume);
    kill_everywhere(&before, "a", &Command::Stop { force: true });
}

#[test]
fn pausing_and_stopping_can_be_killed_anywhere() {
    kill_everywhere(&[("a", START)], "a", &Command::Stop { force: false });
    let before = [("b", START), ("a", START), ("a", Command::Pause)];
    kill_everywhere(&before, "a", &Command::Stop { force: false });
    kill_everywhere(&before, "a", &Command::Resume);
}

#[test]
fn snapshots_can_be_killed_anywhere() {
    let save = || Command::Save(snapshot());
    kill_everywhere(&[("a", START)], "a", &save());
    let stop = Command::Stop { force: false };
    kill_everywhere(&[("a", START), ("a", stop)], "a", &save());
    let before = [("a", START), ("a", save())];
    kill_everywhere(&before, "a", &Command::Restore(snapshot()));
    kill_everywhere(&before, "a", &Command::DeleteSnapshot(snapshot()));
    let restored = [
        ("a", START),
        ("a", save()),
        ("a", Command::Restore(snapshot())),
    ];
    kill_everywhere(&restored, "a", &START);
    kill_everywhere(&restored, "a", &Command::Restore(snapshot()));
}

#[test]
fn forks_can_be_killed_anywhere() {
    let fork = |from| Command::Fork {
        new: "b".parse().unwrap(),
        from,
    };
    kill_everywhere(&[("a", START)], "a", &fork(None));
    let saved = [("a", START), ("a", Command::Save(snapshot()))];
    kill_everywhere(&saved, "a", &fork(Some(snapshot())));
    kill_everywhere(&[("a", START), ("a", fork(None))], "b", &START);
}

#[test]
fn deleting_can_be_killed_anywhere() {
    kill_everywhere(&[("a", START)], "a", &Command::Delete);
    kill_everywhere(&[("a", START)], "a", &Command::Prune { every: true });
    let saved = [("a", START), ("a", Command::Save(snapshot()))];
    kill_everywhere(&saved, "a", &Command::Delete);
}

#[test]
fn throwaway_clusters_can_be_killed_anywhere() {
    for keep in [false, true] {
        kill_everywhere(&[("b", START)], "a", &Command::Run { keep });
    }
}
