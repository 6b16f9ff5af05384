//! The surroundings of a group of tests: a folder, a kubeconfig and profile names of its own, in the run's
//! home, whose template all groups share. The cache of images and components is the user's, since
//! making it takes minutes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::program::Run;
use crate::tidy;

/// The seconds that starts take on the machines that the limits in seconds were chosen on, as copies of a
/// template and without one.
const USUAL_WARM: f64 = 3.0;
const USUAL_COLD: f64 = 60.0;

/// The surroundings of a group of tests.
pub struct Env {
    /// The group's folder: `HOME`, the kubeconfig and what the tests write.
    root: PathBuf,
    home: PathBuf,
    /// The cache, if it is not the user's.
    cache: Option<PathBuf>,
    /// The name of the group's cluster, with which the names of its further ones begin.
    pub profile: String,
    cluster: Mutex<Cluster>,
}

/// The state of the group's cluster.
#[derive(Default)]
struct Cluster {
    /// The result of its start.
    start: Option<Value>,
    /// A test has failed on it since.
    in_doubt: bool,
    /// Things that tests have made on it for all others.
    fixtures: BTreeSet<&'static str>,
}

impl Env {
    /// Makes the surroundings of a group below the run's folder.
    pub fn of_group(run: &Path, run_name: &str, group: &str, own_home: bool) -> Self {
        let root = run.join(group);
        std::fs::create_dir_all(&root).expect("a folder");
        let home = if own_home { &root } else { run };
        Env {
            home: home.join("kubby-home"),
            cache: None,
            profile: format!("{run_name}-{group}"),
            cluster: Mutex::default(),
            root,
        }
    }

    /// Returns another home with a cache of its own, below this one's folder: as on another host.
    pub fn elsewhere(&self, name: &str) -> Env {
        let other = self.another_home(name);
        Env {
            cache: Some(other.root.join("cache")),
            ..other
        }
    }

    /// Returns another home below this one's folder.
    pub fn another_home(&self, name: &str) -> Env {
        let root = self.root.join(name);
        std::fs::create_dir_all(&root).expect("a folder");
        Env {
            home: root.join("kubby-home"),
            cache: self.cache.clone(),
            profile: self.profile.clone(),
            cluster: Mutex::default(),
            root,
        }
    }

    /// Returns another cluster in another home, whose template no other test finds.
    pub fn beside(&self, name: &str) -> Env {
        Env {
            profile: format!("{}-{name}", self.profile),
            ..self.another_home(name)
        }
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes all clusters of the group after one of its tests has failed.
    pub fn recover(&self) {
        let in_doubt = self.cluster().in_doubt;
        if in_doubt {
            tidy::delete_all(self);
            *self.cluster() = Cluster::default();
        }
    }

    /// Starts the group's cluster, from the template if there is one, unless it is there.
    #[track_caller]
    pub fn ensure_cluster(&self) {
        if self.home.join("profiles").join(&self.profile).exists() {
            return;
        }
        *self.cluster() = Cluster::default();
        let start = self.kubby(&["start", "-o", "json"]).ok();
        note!("the group's cluster: {:.1} s", start.took.as_secs_f64());
        self.cluster().start = Some(start.json());
    }

    /// Remembers that a test has failed on the group's cluster.
    pub fn doubt_cluster(&self) {
        self.cluster().in_doubt = true;
    }

    /// Returns the result of the start of the group's cluster.
    pub fn start_result(&self) -> Value {
        self.cluster().start.clone().expect("it was started")
    }

    /// Makes something on the group's cluster that several tests need, unless it is there.
    pub fn once(&self, what: &'static str, make: impl FnOnce()) {
        if !self.cluster().fixtures.contains(what) {
            make();
            self.cluster().fixtures.insert(what);
        }
    }

    /// Forgets something that [`Env::once`] has made, since the test has removed it.
    pub fn removed(&self, what: &str) {
        self.cluster().fixtures.remove(what);
    }

    /// Returns a limit, longer by as much as the cluster's start took longer than on a usual
    /// machine; never shorter.
    pub fn limit_here(&self, limit: Duration) -> Duration {
        let start = self.start_result();
        let took = start["seconds"].as_f64().expect("a number");
        let usual = match start["fromTemplate"] == true {
            true => USUAL_WARM,
            false => USUAL_COLD,
        };
        limit.mul_f64((took / usual).max(1.0))
    }

    pub fn home(&self) -> PathBuf {
        self.home.clone()
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

    /// Runs kubby on the group's profile.
    pub fn kubby(&self, args: &[&str]) -> Run {
        self.kubby_on(&self.profile, args)
    }

    /// Runs kubby on another profile.
    pub fn kubby_on(&self, profile: &str, args: &[&str]) -> Run {
        let mut command = self.kubby_command();
        command.env("KUBBY_PROFILE", profile).args(args);
        Run::of(command)
    }

    /// Returns kubby with nothing but the group's environment set.
    pub fn kubby_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubby"));
        self.apply(&mut command);
        command
    }

    /// Runs the kubectl under test: the user's, else the cluster's own.
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

    /// Returns the folder of assets: the user's own, unless this is another host.
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
}

/// Returns the connection that kubby chooses here.
pub fn uri() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "qemu:///system"
    } else {
        "qemu:///session"
    }
}
