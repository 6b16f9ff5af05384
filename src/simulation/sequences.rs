//! Random sequences of commands by one and two homes, killed at random places.

use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::scenario::{Command, Scenario};
use crate::name::ProfileName;
use crate::process::simulated::KillAt;

/// The number of sequences, unless `KUBBY_SEQUENCES` gives another.
const SEQUENCES: u64 = 10_000;

/// The first sequence's seed, unless `KUBBY_SEQUENCE_SEED` gives another or says `random`: a run without
/// either fails because of a change, never by chance.
const SEED: u64 = 7_792_502_928_751_120_000;

/// Random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).unwrap()].clone()
    }
}

fn profile(random: &mut Random, home: usize) -> ProfileName {
    // `b` is a name that both homes use, `taken` one that a stranger's domain has.
    let names: &[&str] = match (random.one_in(40), home) {
        (true, _) => &["taken"],
        (_, 0) => &["a", "b"],
        _ => &["b", "c"],
    };
    random.of(names).parse().unwrap()
}

fn command(random: &mut Random, home: usize) -> Command {
    let snapshot = |random: &mut Random| random.of(&["s1", "s2"]).parse().unwrap();
    match random.below(38) {
        0..=9 => Command::Start {
            addons: random.one_in(40),
            boot: !random.one_in(3),
        },
        10..=11 => Command::Stop {
            force: random.one_in(3),
        },
        12..=14 => Command::Suspend,
        15 => Command::Pause,
        16 => Command::Resume,
        17..=19 => Command::Save(snapshot(random)),
        20..=22 => Command::Restore(snapshot(random)),
        23 => Command::DeleteSnapshot(snapshot(random)),
        24..=26 => Command::Fork {
            new: profile(random, home),
            from: random.one_in(3).then(|| snapshot(random)),
        },
        27 => Command::Prune {
            every: random.one_in(2),
        },
        28 => Command::RenewCertificates,
        29 => Command::Run {
            keep: random.one_in(2),
        },
        30 => Command::Sweep,
        31 => Command::Repair,
        32..=34 => Command::AddNode,
        35 => Command::DeleteNode,
        _ => Command::Delete,
    }
}

/// Runs one sequence; each step is noted before it is run.
fn sequence(seed: u64, notes: &Mutex<Vec<String>>) {
    let mut random = Random(seed);
    let homes = if random.one_in(3) { 2 } else { 1 };
    let mut scenario = Scenario::new(homes);
    for _ in 0..1 + random.below(5) {
        let home = usize::try_from(random.below(homes as u64)).unwrap();
        let name = profile(&mut random, home);
        let command = command(&mut random, home);
        let limit = random.of(&[4, 16, 48, 120, 300]);
        let kill_at = random
            .one_in(3)
            .then(|| KillAt::Number(1 + u32::try_from(random.below(limit)).unwrap()));
        let note = format!("home {home}: {command:?} {name} {kill_at:?}");
        notes.lock().unwrap().push(note);
        let (result, count) = scenario.step(home, &name, &command, kill_at);
        let end = match result {
            None => "killed".to_owned(),
            Some(Ok(())) => "done".to_owned(),
            Some(Err(e)) => format!("{e}"),
        };
        let note = format!("  -> {end}, {count} places");
        notes.lock().unwrap().push(note);
    }
    for home in 0..homes {
        for name in scenario.clusters(home) {
            if !random.one_in(3) {
                continue;
            }
            notes
                .lock()
                .unwrap()
                .push(format!("home {home}: finally start {name}"));
            let start = Command::Start {
                addons: false,
                boot: true,
            };
            let result = scenario.step(home, &name, &start, None).0.unwrap();
            let blocked = |text: &str| text.contains("that is not this cluster's");
            assert!(
                result.as_ref().is_ok() || blocked(result.as_ref().unwrap_err().message()),
                "{result:?}"
            );
        }
        notes
            .lock()
            .unwrap()
            .push(format!("home {home}: finally delete all"));
        scenario.clean(home);
    }
    scenario.check_untouched();
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap())
}

fn first_seed() -> u64 {
    let variable = "KUBBY_SEQUENCE_SEED";
    match std::env::var(variable).as_deref() {
        Ok("random") => {
            let bytes = *uuid::Uuid::new_v4().as_bytes();
            u64::from_le_bytes(bytes[..8].try_into().unwrap()) >> 1
        }
        _ => number(variable).unwrap_or(SEED),
    }
}

#[test]
fn no_sequence_of_commands_and_kills_does_harm() {
    let seed = first_seed();
    let count = number("KUBBY_SEQUENCES").unwrap_or(SEQUENCES);
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || failed.lock().unwrap().is_some() {
                        return;
                    }
                    let notes = Mutex::default();
                    let own = seed.wrapping_add(number);
                    let run = AssertUnwindSafe(|| sequence(own, &notes));
                    if panic::catch_unwind(run).is_err() {
                        let notes = notes.lock().unwrap().join("\n");
                        *failed.lock().unwrap() = Some((own, notes));
                    }
                }
            });
        }
    });
    if let Some((own, notes)) = failed.into_inner().unwrap() {
        panic!("{notes}\nrepeat it: KUBBY_SEQUENCE_SEED={own} KUBBY_SEQUENCES=1");
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut out = std::io::stderr();
    let _ = writeln!(
        out,
        "{count} sequences in {seconds:.1} s, KUBBY_SEQUENCE_SEED={seed}"
    );
}
