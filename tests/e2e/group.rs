//! Groups of tests, each with clusters of its own: how they are declared, chosen and run.
//!
//! A group's cluster is started when the first of its tests needs it, as a copy of the run's template,
//! which the first start of all makes. After a test that failed the next one gets another cluster, so
//! that one failure does not bring others. A group ends with its clusters deleted and a look at what
//! is left.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Conclusion, Failed, Trial};

use crate::env::{Env, uri};
use crate::tidy;

/// A test, by the path of its function.
#[derive(Clone, Copy)]
pub struct Test {
    path: &'static str,
    run: fn(&Env),
    need: Option<Need>,
    long: bool,
}

impl Test {
    pub const fn new(path: &'static str, run: fn(&Env)) -> Self {
        Test {
            path,
            run,
            need: None,
            long: false,
        }
    }

    /// Skips the test where this is not so.
    pub const fn needs(mut self, need: Need) -> Self {
        self.need = Some(need);
        self
    }

    /// Skips the test, which takes minutes, unless `KUBBY_E2E_LONG=1` is set.
    pub const fn long(mut self) -> Self {
        self.long = true;
        self
    }

    pub fn is_long(&self) -> bool {
        self.long
    }

    /// Returns the module below this program's, and the function.
    pub fn name(&self) -> &'static str {
        self.path
            .split_once("::")
            .map_or(self.path, |(_, name)| name)
    }
}

/// The tests of a module: names of functions, each with what is special about it.
macro_rules! tests {
    ($($name:ident $(. $with:ident ( $($argument:expr)? ))*),+ $(,)?) => {
        &[$(
            $crate::group::Test::new(concat!(module_path!(), "::", stringify!($name)), $name)
                $(.$with($($argument)?))*
        ),+]
    };
}

/// A condition of a test on the host.
#[derive(Clone, Copy)]
pub struct Need {
    pub is_met: fn() -> bool,
    otherwise: &'static str,
}

/// The system's libvirt, other users and mounts.
pub const ROOT: Need = Need {
    is_met: || uri() == "qemu:///system",
    otherwise: "only root can try that",
};

/// No hardware virtualisation.
pub const NO_KVM: Need = Need {
    is_met: || {
        let flags = std::fs::read_to_string("/proc/cpuinfo").expect("cpuinfo");
        !flags.contains(" vmx") && !flags.contains(" svm")
    },
    otherwise: "this host has hardware virtualisation",
};

/// Tests that share clusters.
pub struct Group {
    pub name: &'static str,
    pub tests: &'static [&'static [Test]],
    /// Whether each test finds the group's cluster running.
    pub cluster: bool,
    /// Whether the group has a home of its own, since it needs no template.
    pub own_home: bool,
    /// Ends what the tests have made beside clusters.
    pub end: fn(),
}

impl Group {
    /// Returns a group whose tests make what clusters they need.
    pub const fn new(name: &'static str, tests: &'static [&'static [Test]]) -> Self {
        Group {
            name,
            tests,
            cluster: false,
            own_home: false,
            end: || {},
        }
    }

    pub const fn with_cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    pub const fn with_own_home(mut self) -> Self {
        self.own_home = true;
        self
    }

    pub const fn ends(mut self, end: fn()) -> Self {
        self.end = end;
        self
    }
}

/// The outcome of a test.
enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// A test that was chosen, and where its outcome is waited for.
type Chosen = (Test, mpsc::Sender<Outcome>);

/// A group with the tests of it that were chosen.
struct Part {
    group: &'static Group,
    tests: Vec<Chosen>,
    /// Of the look at what is left.
    end: mpsc::Sender<Outcome>,
}

/// The run of the groups: where it is, and what it has taken so far.
struct Stage {
    root: PathBuf,
    name: String,
    times: Mutex<Vec<(&'static str, usize, Duration)>>,
    passed: Mutex<BTreeSet<&'static str>>,
    skipped: Mutex<BTreeSet<&'static str>>,
}

/// Runs the tests that the arguments choose.
pub fn run(args: &Arguments, groups: &'static [Group]) -> Conclusion {
    let began = Instant::now();
    let long = std::env::var_os("KUBBY_E2E_LONG").is_some_and(|v| v == "1");
    let kept = std::env::var_os("KUBBY_E2E_KEEP").map(PathBuf::from);
    let stage = Arc::new(Stage::new(kept.clone()));
    let (mut trials, mut parts) = (Vec::new(), Vec::new());
    for group in groups {
        let (end, ended) = mpsc::channel();
        let mut tests = Vec::new();
        for test in group.tests.iter().copied().flatten() {
            let (sender, receiver) = mpsc::channel();
            let trial = trial(test.name(), receiver).with_kind(group.name);
            let trial = trial.with_ignored_flag(test.long && !long);
            if args.is_filtered_out(&trial) {
                continue;
            }
            if !args.is_ignored(&trial) {
                tests.push((*test, sender));
            }
            trials.push(trial);
        }
        if !tests.is_empty() {
            trials.push(trial("nothing_is_left", ended).with_kind(group.name));
            parts.push(Part { group, tests, end });
        }
    }
    let whole = args.filter.is_none() && args.skip.is_empty() && !args.ignored;
    if args.list {
        return libtest_mimic::run(&chosen(args), trials);
    }
    let on_stage = Arc::clone(&stage);
    let groups = thread::spawn(move || parts.into_iter().for_each(|part| on_stage.play(part)));
    trials.push(end(Arc::clone(&stage), groups, whole, kept.is_some()));
    // One at a time and in their order: each trial waits for the outcome of its test.
    let conclusion = libtest_mimic::run(&chosen(args), trials);
    stage.print_times(began.elapsed());
    if kept.is_none() {
        let _ = std::fs::remove_dir_all(&stage.root);
    }
    conclusion
}

/// Returns the arguments for trials that are chosen already.
fn chosen(args: &Arguments) -> Arguments {
    Arguments {
        filter: None,
        skip: Vec::new(),
        ignored: false,
        include_ignored: args.include_ignored || args.ignored,
        test_threads: Some(1),
        ..args.clone()
    }
}

/// Returns a trial that waits for the outcome of a test.
fn trial(name: &str, outcome: mpsc::Receiver<Outcome>) -> Trial {
    Trial::ignorable_test(name, move || match outcome.recv() {
        Ok(outcome) => completion(outcome),
        Err(_) => Err("its group has ended before it".into()),
    })
}

fn completion(outcome: Outcome) -> Result<Completion, Failed> {
    match outcome {
        Outcome::Passed => Ok(Completion::Completed),
        Outcome::Skipped(why) => Ok(Completion::ignored_with(why)),
        Outcome::Failed(why) => Err(why.into()),
    }
}

/// Returns the trial that ends the run: nothing is left of it, and the tests that the threat model
/// names have run.
fn end(stage: Arc<Stage>, groups: JoinHandle<()>, whole: bool, kept: bool) -> Trial {
    Trial::ignorable_test("the_run_leaves_nothing", move || {
        groups.join().map_err(|panic| text(panic.as_ref()))?;
        if kept {
            return completion(Outcome::Skipped("the home is kept".into()));
        }
        let env = Env::of_group(&stage.root, &stage.name, "end", false);
        let left = tidy::end_run(&env);
        if !left.is_empty() {
            return Err(left.join("\n").into());
        }
        match whole {
            true => completion(stage.promised()),
            false => Ok(Completion::Completed),
        }
    })
}

impl Stage {
    /// Makes the run's folder, or takes the one that `KUBBY_E2E_KEEP` names, whose template stays for
    /// the next run.
    fn new(kept: Option<PathBuf>) -> Self {
        let (root, name) = match kept {
            Some(root) => {
                std::fs::create_dir_all(&root).expect("a folder");
                let name = root.file_name().expect("a name").to_string_lossy();
                let name = format!("{name}-kept");
                (root, name)
            }
            // Not under /tmp's own mode: the folder is private, as a home is.
            None => {
                let root = tempfile::Builder::new().prefix("kubby-e2e-").tempdir();
                (
                    root.expect("a folder").keep(),
                    format!("e{}", std::process::id()),
                )
            }
        };
        Stage {
            root,
            name,
            times: Mutex::default(),
            passed: Mutex::default(),
            skipped: Mutex::default(),
        }
    }

    fn play(&self, part: Part) {
        let began = Instant::now();
        let group = part.group;
        let env = Env::of_group(&self.root, &self.name, group.name, group.own_home);
        let unfinished = tidy::unfinished(&env.cache());
        let tests = part.tests.len();
        for (test, sender) in part.tests {
            let outcome = one(&env, group, &test);
            match outcome {
                Outcome::Passed => drop(locked(&self.passed).insert(test.name())),
                Outcome::Skipped(_) => drop(locked(&self.skipped).insert(test.name())),
                Outcome::Failed(_) => env.doubt_cluster(),
            }
            let _ = sender.send(outcome);
        }
        let left = catch_unwind(AssertUnwindSafe(|| {
            (group.end)();
            tidy::end_group(&env, &unfinished)
        }));
        let outcome = match left {
            Ok(left) if left.is_empty() => Outcome::Passed,
            Ok(left) => Outcome::Failed(left.join("\n")),
            Err(panic) => Outcome::Failed(text(panic.as_ref())),
        };
        let _ = std::fs::remove_dir_all(env.root());
        let took = began.elapsed();
        eprintln!("  group {}: {:.1} s", group.name, took.as_secs_f64());
        locked(&self.times).push((group.name, tests, took));
        let _ = part.end.send(outcome);
    }

    /// Says whether the tests that the threat model names have passed.
    fn promised(&self) -> Outcome {
        let promised = crate::threat_model::tests();
        let (passed, skipped) = (locked(&self.passed), locked(&self.skipped));
        let not_passed = promised.iter().map(String::as_str);
        let not_passed: Vec<&str> = not_passed.filter(|name| !passed.contains(name)).collect();
        if not_passed.is_empty() {
            return Outcome::Passed;
        }
        let text = format!("docs/threat-model.md names tests that did not pass: {not_passed:?}");
        match not_passed.iter().all(|name| skipped.contains(name)) {
            true => Outcome::Skipped(text),
            false => Outcome::Failed(text),
        }
    }

    fn print_times(&self, all: Duration) {
        let times = locked(&self.times);
        eprintln!("what each group took:");
        for (group, tests, took) in times.iter() {
            eprintln!("  {group:<14}{tests:>4} tests{:>8.1} s", took.as_secs_f64());
        }
        eprintln!("  all{:>26.1} s", all.as_secs_f64());
    }
}

/// Runs one test in a thread of its name, by which messages say whose they are.
fn one(env: &Env, group: &Group, test: &Test) -> Outcome {
    if let Some(need) = test.need.filter(|need| !(need.is_met)()) {
        return Outcome::Skipped(need.otherwise.into());
    }
    let began = Instant::now();
    let ended = thread::scope(|scope| {
        let body = || {
            env.recover();
            if group.cluster {
                env.ensure_cluster();
            }
            (test.run)(env);
        };
        let named = thread::Builder::new().name(test.name().to_owned());
        let thread = named.spawn_scoped(scope, body).expect("a thread");
        thread.join()
    });
    eprintln!("  {}: {:.1} s", test.name(), began.elapsed().as_secs_f64());
    match ended {
        Ok(()) => Outcome::Passed,
        Err(panic) => Outcome::Failed(text(panic.as_ref())),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what a panic says.
fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}
