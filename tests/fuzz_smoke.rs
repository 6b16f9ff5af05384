//! Every parser of foreign input on its corpus in `fuzz/corpus` and on changed copies of it, for a
//! few seconds: the short form of the runs that `docs/fuzzing.md` describes.
//!
//! `KUBBY_FUZZ_SECONDS` sets the time for each target (2). Each run makes other changes, by a new seed,
//! which it prints; `KUBBY_FUZZ_SEED` repeats those of an earlier run. An input that fails is written
//! to `target/fuzz-failures`.

#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail by panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use kubby::testing::fuzzing::{TARGETS, Target};

#[path = "../src/kubeconfig/generate.rs"]
#[expect(dead_code, reason = "only its random numbers are used")]
mod generate;

use generate::Random;

/// Inputs do not grow beyond this, in bytes.
const MOST: usize = 256 * 1024;

/// No input may take so long, not even on a busy machine and without optimisation.
const LONGEST: Duration = Duration::from_secs(20);

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// Returns the seed that is asked for, else another one in each run.
fn seed() -> u64 {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // Short enough to be typed, and for `fuzz`, which adds the number of the change to it.
    let fresh = || u64::from(now().unwrap().subsec_nanos()) % 1_000_000;
    variable("KUBBY_FUZZ_SEED").unwrap_or_else(fresh)
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder:?} is empty");
    let read = |p: PathBuf| (p.display().to_string(), std::fs::read(p).unwrap());
    files.into_iter().map(read).collect()
}

/// Returns the place of a change: anywhere, or in the first bytes, which describe the input.
fn place(r: &mut Random, length: usize) -> usize {
    let most = if r.below(2) == 0 {
        length
    } else {
        length.min(600)
    };
    r.below(most as u64 + 1) as usize
}

/// Changes an input a little, with parts of another one.
fn change(r: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    const ODD: [u8; 12] = [
        0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'/', b'.', b'{', b':', b'9',
    ];
    let at = place(r, input.len());
    let most = 1 << r.below(8);
    let length = (1 + r.below(most) as usize).min(input.len() - at);
    match r.below(8) {
        0 if at < input.len() => input[at] ^= 1 << r.below(8),
        1 if at < input.len() => input[at] = ODD[r.below(12) as usize],
        2 => drop(input.drain(at..at + length)),
        3 => input.truncate(at),
        4 => {
            let again = input[at..at + length].repeat(1 + r.below(20) as usize);
            input.splice(at..at, again);
        }
        5 => input.insert(at, ODD[r.below(12) as usize]),
        6 => {
            let from = place(r, other.len());
            let to = (from + 1 + r.below(64) as usize).min(other.len());
            input.splice(at..at + length, other[from.min(to)..to].iter().copied());
        }
        _ => {
            for byte in &mut input[at..at + length.min(8)] {
                *byte = r.below(256) as u8;
            }
        }
    }
    input.truncate(MOST);
}

/// Gives one input to a target; a failure keeps it as a file and says how to repeat it.
fn give(target: Target, input: &[u8], whence: &str, current: &Mutex<(Instant, Vec<u8>)>) {
    *current.lock().unwrap() = (Instant::now(), input.to_vec());
    let result = catch_unwind(AssertUnwindSafe(|| (target.1)(input)));
    let took = current.lock().unwrap().0.elapsed();
    if result.is_err() || took > LONGEST {
        panic!(
            "{} fails on {whence} after {took:?}: {}",
            target.0,
            keep(target, input)
        );
    }
}

/// Writes an input to a file of its own and returns its name.
fn keep(target: Target, input: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz-failures");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{}-{}", target.0, std::process::id()));
    std::fs::write(&file, input).unwrap();
    file.display().to_string()
}

/// Runs the corpus as it is, then changed copies until the time is over. Returns how many.
fn fuzz(target: Target, seed: u64, current: &Mutex<(Instant, Vec<u8>)>) -> u64 {
    let time = Duration::from_secs(variable("KUBBY_FUZZ_SECONDS").unwrap_or(2));
    let corpus = corpus(target.0);
    for (name, input) in &corpus {
        give(target, input, name, current);
    }
    let end = Instant::now() + time;
    let mut count = 0;
    while Instant::now() < end {
        // From the seed and the count alone, so that each can be repeated without those before.
        let mut r = Random::new(seed.wrapping_mul(1 << 40).wrapping_add(count));
        r.below(2);
        let of = |r: &mut Random| &corpus[r.below(corpus.len() as u64) as usize].1;
        let mut input = of(&mut r).clone();
        let other = of(&mut r);
        for _ in 0..1 + r.below(6) {
            change(&mut r, &mut input, other);
        }
        let whence = format!("change {count} with KUBBY_FUZZ_SEED={seed}");
        give(target, &input, &whence, current);
        count += 1;
    }
    count
}

#[test]
fn foreign_input_is_refused_or_right() {
    let seed = seed();
    println!("KUBBY_FUZZ_SEED={seed} repeats these changes");
    let next = Arc::new(AtomicUsize::new(0));
    let (done, results) = mpsc::channel();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let running: Vec<_> = (0..workers)
        .map(|_| Arc::new(Mutex::new((Instant::now(), Vec::new()))))
        .collect();
    let at = |target: usize| TARGETS.get(target).copied();
    for current in &running {
        let (next, done, current) = (next.clone(), done.clone(), current.clone());
        std::thread::spawn(move || {
            while let Some(target) = at(next.fetch_add(1, Ordering::Relaxed)) {
                let result = catch_unwind(AssertUnwindSafe(|| fuzz(target, seed, &current)));
                let result = result.map_err(|e| e.downcast_ref::<String>().cloned());
                current.lock().unwrap_or_else(|e| e.into_inner()).1.clear();
                let _ = done.send((target.0, result));
            }
        });
    }
    let mut failures = Vec::new();
    let mut open = TARGETS.len();
    while open > 0 {
        if let Ok((name, result)) = results.recv_timeout(Duration::from_millis(500)) {
            open -= 1;
            match result {
                Ok(count) => println!("{name}: {count} changed inputs"),
                Err(why) => failures.push(why.unwrap_or_else(|| format!("{name} failed"))),
            }
        }
        // A call that never returns cannot be ended, only reported.
        for current in &running {
            let current = current.lock().unwrap_or_else(|e| e.into_inner());
            let stuck = !current.1.is_empty() && current.0.elapsed() > 3 * LONGEST;
            assert!(!stuck, "no end: {}", keep(("hang", |_| {}), &current.1));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_corpus_belongs_to_a_target_and_every_target_to_a_program() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |folder: &str| {
        let entries = std::fs::read_dir(fuzz.join(folder)).unwrap();
        let stem = |p: PathBuf| p.file_stem().unwrap().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries.map(|e| stem(e.unwrap().path())).collect();
        names.sort();
        names
    };
    let mut targets: Vec<&str> = TARGETS.iter().map(|t| t.0).collect();
    targets.sort_unstable();
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets);
}
