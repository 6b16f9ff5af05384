//! When a cluster reaches the stages of the public method time-to-k8s, seen from the host with
//! cheap requests: one connection, one small request at a time, nothing run in the guest.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kubby::testing::api::{Answer, ApiClient};
use kubby::testing::cluster::Cluster;
use kubby::testing::cluster::env::Real;
use kubby::testing::error::{Error, Kind, Result};
use kubby::testing::interrupt;
use kubby::testing::profile::ProfileName;
use kubby::testing::store::Store;
use serde_json::Value;

use crate::sample::Sample;

/// The pause between two requests: a hundredth of what has passed, within these bounds. A request
/// costs an emulated node 10 to 20 ms of the processor that is being waited for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(300));

fn pause_after(elapsed: Duration) -> Duration {
    (elapsed / 100).clamp(PAUSES.0, PAUSES.1)
}

/// The application's Service, asked through kube-apiserver.
pub const APP: &str = "/api/v1/namespaces/default/services/app:80/proxy/";

/// Stages with the seconds after which they were there.
pub type Seen = Vec<(&'static str, f64)>;

/// A stage: what it is called, the request that shows it, and the stage that must be there before
/// the request makes sense.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    pub name: &'static str,
    path: &'static str,
    shows: fn(&Answer) -> bool,
    after: Option<&'static str>,
}

pub const KUBECTL: Stage = Stage {
    name: "kubectl answers",
    // What `kubectl get pods -A` asks.
    path: "/api/v1/pods?limit=500",
    shows: Answer::is_ok,
    after: None,
};
pub const KUBERNETES_SERVICE: Stage = Stage {
    name: "Service kubernetes",
    path: "/api/v1/namespaces/default/services/kubernetes",
    shows: Answer::is_ok,
    after: Some(KUBECTL.name),
};
pub const NODE_READY: Stage = Stage {
    name: "node Ready",
    path: "/api/v1/nodes/kubby",
    shows: is_ready,
    after: Some(KUBECTL.name),
};
pub const DNS_SERVICE: Stage = Stage {
    name: "Service kube-dns",
    path: "/api/v1/namespaces/kube-system/services/kube-dns",
    shows: Answer::is_ok,
    after: Some(KUBECTL.name),
};
pub const APP_RUNNING: Stage = Stage {
    name: "application runs",
    path: APP,
    shows: |answer| answer.is_ok() && answer.body == "ok",
    after: Some(DNS_SERVICE.name),
};
pub const DNS_ANSWERS: Stage = Stage {
    name: "DNS answers for it",
    path: "/api/v1/namespaces/default/services/app:80/proxy/dns",
    shows: |answer| answer.is_ok() && answer.body.contains("\"body\":\"ok\""),
    after: Some(APP_RUNNING.name),
};

/// All stages of a start.
pub const ALL: [Stage; 6] = [
    KUBECTL,
    KUBERNETES_SERVICE,
    NODE_READY,
    DNS_SERVICE,
    APP_RUNNING,
    DNS_ANSWERS,
];

fn is_ready(answer: &Answer) -> bool {
    let node: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    answer.is_ok()
        && node["status"]["conditions"].as_array().is_some_and(|all| {
            all.iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
        })
}

/// Asks the API of a cluster that may not be there yet, or may get other credentials meanwhile.
pub struct Prober {
    open: Box<dyn Fn() -> Result<ApiClient> + Send>,
    api: Option<ApiClient>,
    /// Set when no thread waits any more.
    stop: Arc<AtomicBool>,
}

impl Prober {
    /// Of the profile of a kubby home.
    pub fn of_profile(home: PathBuf, profile: &str) -> Result<Self> {
        let name: ProfileName = profile
            .parse()
            .map_err(|why: String| Error::new(Kind::Internal, why))?;
        // Nothing here is in the cache.
        let store = Store::at(&home, &home);
        Ok(Prober {
            open: Box::new(move || Cluster::open(&store, &name)?.api(&Real)),
            api: None,
            stop: Arc::default(),
        })
    }

    /// Of a client that stays.
    pub fn of(api: ApiClient) -> Self {
        Prober {
            open: Box::new(|| Err(Error::new(Kind::Unhealthy, "the API went away"))),
            api: Some(api),
            stop: Arc::default(),
        }
    }

    /// Calls the API; returns `None` on a failure, after which the next call reads the credentials again.
    pub fn with<T>(&mut self, ask: impl FnOnce(&ApiClient) -> Result<T>) -> Option<T> {
        if self.api.is_none() {
            self.api = Some((self.open)().ok()?);
        }
        ask(self.api.as_ref()?).ok()
    }

    fn get(&mut self, path: &str) -> Option<Answer> {
        let answer = self.with(|api| api.get(path));
        let refused = answer
            .as_ref()
            .is_none_or(|a| matches!(a.status, 401 | 403));
        if refused && let Ok(fresh) = (self.open)() {
            self.api = Some(fresh);
        }
        answer
    }

    /// Waits for stages and returns when each was there, in seconds since `began`.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] at the deadline with what was missing, and on Ctrl-C.
    pub fn wait(&mut self, stages: &[Stage], began: Instant, deadline: Instant) -> Result<Seen> {
        let mut there: Seen = Vec::new();
        let mut open: Vec<Stage> = stages.to_vec();
        while !open.is_empty() {
            // Each in its turn, so that none delays another for long.
            let mut index = 0;
            while let Some(stage) = open.get(index).copied() {
                let waits = stage
                    .after
                    .is_some_and(|after| open.iter().any(|other| other.name == after));
                if waits {
                    index += 1;
                    continue;
                }
                let answer = self.get(stage.path);
                if answer.is_some_and(|answer| (stage.shows)(&answer)) {
                    there.push((stage.name, began.elapsed().as_secs_f64()));
                    open.remove(index);
                    continue;
                }
                index += 1;
                self.pause(began, deadline, &open)?;
            }
        }
        Ok(there)
    }

    fn pause(&self, began: Instant, deadline: Instant, open: &[Stage]) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) || Instant::now() > deadline {
            let missing: Vec<&str> = open.iter().map(|stage| stage.name).collect();
            return Err(Error::new(
                Kind::Unhealthy,
                format!("not seen in time: {}", missing.join(", ")),
            ));
        }
        interrupt::sleep(pause_after(began.elapsed()))
    }
}

/// Watches a start from a thread of its own, which ends when this is dropped.
pub struct Observer {
    thread: Option<JoinHandle<Result<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Observer {
    pub fn begin(mut prober: Prober, stages: &[Stage], began: Instant, limit: Duration) -> Self {
        let (stages, stop) = (stages.to_vec(), Arc::clone(&prober.stop));
        let watch = move || prober.wait(&stages, began, began + limit);
        Observer {
            thread: Some(std::thread::spawn(watch)),
            stop,
        }
    }

    /// Waits for the last stage and puts them all into the sample.
    ///
    /// # Errors
    /// As [`Prober::wait`].
    pub fn end(mut self, sample: &mut Sample) -> Result<()> {
        let broke = || Error::new(Kind::Internal, "the observer broke");
        let thread = self.thread.take().ok_or_else(broke)?;
        for (name, seconds) in thread.join().map_err(|_| broke())?? {
            sample.stage(name, seconds);
        }
        Ok(())
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
