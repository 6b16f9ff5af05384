//! A hermetic place for the tests: own home, own kubeconfig, own profile names; only the cache
//! of images and components is shared, since making it takes minutes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A named test.
pub type Test = (&'static str, fn(&Env));

/// The tests' surroundings.
pub struct Env {
    root: PathBuf,
    /// The cache, where it is not the user's.
    cache: Option<PathBuf>,
    /// The folder and its clusters stay for the next run.
    kept: bool,
    /// The profile that most tests share.
    pub profile: String,
    /// How long the first start of all took, which tells how fast this machine is.
    first_start: OnceLock<Duration>,
}

/// What a first start takes on the machines that the tests' limits in seconds were chosen on.
const USUAL_START: Duration = Duration::from_secs(60);

impl Env {
    /// A new folder, or the one that `KUBBY_E2E_KEEP` names: what a run leaves there the next one
    /// finds, so that single tests can be tried on a cluster that is there.
    pub fn new() -> Self {
        if let Some(root) = std::env::var_os("KUBBY_E2E_KEEP") {
            std::fs::create_dir_all(&root).expect("a folder");
            let name = PathBuf::from(&root);
            let name = name.file_name().expect("a name").to_string_lossy();
            return Env {
                // Another kept folder's clusters have other names.
                profile: format!("{name}-kept"),
                root: root.into(),
                cache: None,
                kept: true,
                first_start: OnceLock::new(),
            };
        }
        // Not under /tmp's own mode: the folder is private, as a home is.
        let root = tempfile::Builder::new()
            .prefix("kubby-e2e-")
            .tempdir()
            .expect("a folder");
        Env {
            profile: format!("e{}", std::process::id()),
            root: root.keep(),
            cache: None,
            kept: false,
            first_start: OnceLock::new(),
        }
    }

    /// Another home with a cache of its own, below this one's folder: as on another host.
    pub fn elsewhere(&self, name: &str) -> Env {
        let root = self.root.join(name);
        std::fs::create_dir_all(&root).expect("a folder");
        Env {
            profile: self.profile.clone(),
            cache: Some(root.join("cache")),
            root,
            kept: self.kept,
            first_start: self.first_start.clone(),
        }
    }

    /// Tells how long the first start took.
    pub fn first_start_took(&self, took: Duration) {
        let _ = self.first_start.set(took);
    }

    /// A limit, longer by as much as the first start took longer here than on a usual machine; never
    /// shorter.
    pub fn limit_here(&self, limit: Duration) -> Duration {
        let took = self.first_start.get().copied().unwrap_or(USUAL_START);
        limit.mul_f64(took.div_duration_f64(USUAL_START).max(1.0))
    }

    pub fn home(&self) -> PathBuf {
        self.root.join("kubby-home")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kube/config")
    }

    pub fn domain(&self) -> String {
        format!("kubby-{}", self.profile)
    }

    /// kubby on the shared profile.
    pub fn kubby(&self, args: &[&str]) -> Run {
        self.kubby_on(&self.profile, args)
    }

    /// kubby on another profile.
    pub fn kubby_on(&self, profile: &str, args: &[&str]) -> Run {
        let mut command = self.kubby_command();
        command.env("KUBBY_PROFILE", profile).args(args);
        Run::of(command)
    }

    /// kubby with nothing but the test's environment set.
    pub fn kubby_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubby"));
        self.apply(&mut command);
        command
    }

    /// The kubectl under test: the user's, else the cluster's own.
    pub fn kubectl(&self, args: &[&str]) -> Run {
        let mut command = match std::env::var_os("KUBBY_TEST_KUBECTL") {
            Some(program) => Command::new(program),
            None => {
                let mut command = self.kubby_command();
                command.args(["-p", &self.profile, "kubectl", "--"]);
                command
            }
        };
        self.apply(&mut command);
        command.args(args);
        Run::of(command)
    }

    pub fn apply(&self, command: &mut Command) {
        command
            .env("KUBBY_HOME", self.home())
            .env("HOME", &self.root)
            .env("KUBECONFIG", self.kubeconfig())
            .env("NO_COLOR", "1")
            .env_remove("KUBBY_PROFILE")
            .stdin(Stdio::null());
        // HOME is another one here, so the cache must be named.
        command.env("KUBBY_CACHE", self.cache());
    }

    /// The folder of assets: the user's own, unless this is another host.
    pub fn cache(&self) -> PathBuf {
        let users = || dirs::cache_dir().expect("a cache folder").join("kubby");
        match (&self.cache, std::env::var_os("KUBBY_CACHE")) {
            (Some(cache), _) => cache.clone(),
            (None, Some(cache)) => cache.into(),
            (None, None) => users(),
        }
    }

    pub fn virsh(&self, args: &[&str]) -> Run {
        let mut command = Command::new("virsh");
        command.arg("-c").arg(uri()).args(args);
        Run::of(command)
    }

    /// Deletes whatever a failed test left, and the tests' own folder.
    pub fn clean_up(&self) {
        if self.kept {
            return;
        }
        for env in [
            &self.elsewhere("other-host"),
            &self.elsewhere("doctor"),
            self,
        ] {
            if !env.home().exists() {
                continue;
            }
            for args in [
                ["delete", "--all"].as_slice(),
                &["template", "prune", "--all"],
            ] {
                let mut command = env.kubby_command();
                command.args(args);
                let _ = Run::of(command);
            }
        }
        // The process ends without running destructors, so the folder goes here.
        let _ = std::fs::remove_dir_all(self.root());
    }
}

/// The connection that kubby chooses here.
pub fn uri() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "qemu:///system"
    } else {
        "qemu:///session"
    }
}

/// A finished program.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    shown: String,
}

impl Run {
    pub fn of(mut command: Command) -> Self {
        let shown = format!("{command:?}");
        let began = Instant::now();
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .output()
            .unwrap_or_else(|e| panic!("cannot run {shown}: {e}"));
        Run {
            code: status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            took: began.elapsed(),
            shown,
        }
    }

    /// It ended with this code; if not, all that it said is shown.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "{} ended with {} instead of {code} after {:.1} s\n--- stdout\n{}\n--- stderr\n{}",
            self.shown,
            self.code,
            self.took.as_secs_f64(),
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// stderr holds this.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(
            self.stderr.contains(words),
            "no `{words}` in stderr:\n{}",
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn prints(self, words: &str) -> Self {
        assert!(
            self.stdout.contains(words),
            "no `{words}` in stdout:\n{}",
            self.stdout
        );
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("not JSON ({e}):\n{}", self.stdout))
    }
}

/// Asks again until it is so, or fails at the deadline with what was last seen.
#[track_caller]
pub fn eventually<T: std::fmt::Debug>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<(), T>,
) {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(()) => return,
            Err(last) if Instant::now() > end => panic!("{what}: not within {limit:?}: {last:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}
