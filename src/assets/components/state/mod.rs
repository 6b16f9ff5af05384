//! The objects that an API server and the controllers write into an empty etcd at first, as a part
//! of the volume: a new node's etcd begins with it. Making some hundred and eighty roles, bindings
//! and priorities takes an API server that is emulated ten seconds, and one that runs on this host
//! two; the controllers' accounts, which they make one after the other, take as long. Each API
//! server compares the roles with its own when it starts, and each controller looks for its
//! account, so a node's state is what it would be without.

mod programs;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::stage::Stage;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::hypervisor::ports;
use crate::progress::Progress;
use crate::tool::{Tool, find};
use crate::wait;
use programs::LIMIT;
use programs::Run;

/// The programs that are needed to make it.
const PROGRAMS: [&str; 5] = [
    "etcd",
    "etcdctl",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
];

/// The objects that are kept of all that the API server writes: those that are the same in every
/// cluster and belong to it alone. Namespaces, Services, leases and whatever else makes a cluster
/// the one that it is are made by each cluster itself.
const KEPT: [&str; 8] = [
    "/registry/apiregistration.k8s.io/apiservices/",
    "/registry/clusterrolebindings/",
    "/registry/clusterroles/",
    "/registry/flowschemas/",
    "/registry/priorityclasses/",
    "/registry/prioritylevelconfigurations/",
    "/registry/rolebindings/",
    "/registry/roles/",
];

/// The prefix of the controllers' accounts. Other accounts are made by each cluster itself.
const ACCOUNTS: &str = "/registry/serviceaccounts/kube-system/";
const NO_ACCOUNT_OF_THEIRS: &str = "default";

/// The time without a new account after which the controllers have made all: each takes
/// milliseconds.
const NO_MORE: Duration = Duration::from_secs(2);

const ASK_EVERY: Duration = Duration::from_millis(100);

/// Files are written to disk in blocks of this many bytes.
const PAGE: usize = 4096;

/// Makes the state by running etcd and the API server of the stage on this host. Without it nodes
/// begin with an empty etcd: where the programs do not run here, that is said and costs no more.
///
/// # Errors
/// [`Kind::Interrupted`] on Ctrl-C.
pub(super) fn make(stage: &Stage, progress: &dyn Progress) -> Result<()> {
    let there = PROGRAMS.iter().all(|name| stage.bin.join(name).exists());
    // A process that is killed must leave no API server behind.
    if !there || find("setpriv").is_none() {
        return Ok(());
    }
    let step = progress.step("Make a new cluster's first state");
    let began = Instant::now();
    match fill(stage, &stage.images.with_file_name("etcd")) {
        Ok(objects) => {
            let seconds = began.elapsed().as_secs_f64();
            step.done(format!("{objects} objects, in {seconds:.1} s"));
            Ok(())
        }
        Err(e) if e.kind() == Kind::Interrupted => Err(e),
        Err(e) => {
            step.skipped("new nodes make it themselves");
            let said = e.details().last().map_or("", |(_, text)| text);
            let last = said.lines().last().unwrap_or_default();
            progress.note(&format!("no first state for new clusters: {e} ({last})"));
            Ok(())
        }
    }
}

/// Runs the programs until all has been written, and puts etcd's files into `out`. Returns the
/// number of objects.
fn fill(stage: &Stage, out: &Path) -> Result<usize> {
    let fail = || "cannot run an API server on this host".to_owned();
    // Not in the cache: sockets' paths are short. No other user may enter.
    let dir = tempfile::Builder::new()
        .prefix("kubby-state-")
        .tempdir()
        .context(Kind::Assets, fail)?;
    let run = Run {
        bin: &stage.bin,
        dir: dir.path(),
        port: ports::find_free(1, &BTreeSet::new())?[0],
    };
    run.write_credentials()?;
    let objects = while_running(run.etcd(), |etcd_ended| {
        while_running(run.api_server(), |api_ended| {
            run.wait(&|| etcd_ended() || api_ended())?;
            while_running(run.controllers(), |ended| run.wait_for_accounts(ended))
        })?;
        run.prune()
    })?;
    take(&run.data(), out)?;
    Ok(objects)
}

/// Runs `work` while `program` runs, and ends the program after that. `work` gets a function that
/// returns whether the program has ended.
///
/// # Errors
/// That of the program where it has ended by itself, else that of `work`.
fn while_running<T>(program: Tool, work: impl FnOnce(&dyn Fn() -> bool) -> Result<T>) -> Result<T> {
    let ends = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let program = program.stop(Arc::clone(&ends));
        let running = scope.spawn(|| program.run(None));
        let result = work(&|| running.is_finished());
        let by_itself = running.is_finished();
        ends.store(true, Ordering::Relaxed);
        match running.join() {
            Ok(Err(e)) if by_itself => Err(e),
            _ => result,
        }
    })
}

/// Returns the error of a wait for a program that has ended, which says more itself.
fn ended() -> Error {
    Error::assets("a program ended at once")
}

impl Run<'_> {
    /// Waits until no more accounts come.
    fn wait_for_accounts(&self, has_ended: &dyn Fn() -> bool) -> Result<()> {
        let (mut seen, mut since) = (0, Instant::now());
        let made = wait::poll(Instant::now() + LIMIT, ASK_EVERY, || {
            if has_ended() {
                return Err(ended());
            }
            let keys = self.etcdctl(&["get", "--prefix", ACCOUNTS, "--keys-only"])?;
            let (accounts, _) = sort_out(&keys);
            if accounts.len() != seen {
                (seen, since) = (accounts.len(), Instant::now());
            } else if seen > 0 && since.elapsed() > NO_MORE {
                return Ok(Some(()));
            }
            Ok(None)
        })?;
        made.ok_or_else(|| Error::assets("the controllers made no accounts"))
    }

    /// Waits until the API server is ready, which it is once all has been written, or a program has
    /// ended.
    fn wait(&self, has_ended: &dyn Fn() -> bool) -> Result<()> {
        let ready = wait::retry(Instant::now() + LIMIT, ASK_EVERY, Kind::Assets, || {
            if has_ended() {
                return Ok(false);
            }
            let answer = Tool::new(self.program("kubectl"), Kind::Assets)
                .arg(format!("--kubeconfig={}", self.path("kubeconfig")))
                .args(["--request-timeout=5s", "get", "--raw=/readyz"])
                .deadline(Duration::from_secs(20))
                .run(None);
            answer.map(|_| true)
        })?;
        if ready { Ok(()) } else { Err(ended()) }
    }

    /// Removes what is not to be kept, also from etcd's history. Returns how many keys are left.
    fn prune(&self) -> Result<usize> {
        let keys = self.etcdctl(&["get", "", "--from-key", "--keys-only"])?;
        let (kept, others) = sort_out(&keys);
        if kept.is_empty() {
            return Err(Error::assets("an API server wrote nothing"));
        }
        for key in others {
            self.etcdctl(&["del", "--", key])?;
        }
        let status = self.etcdctl(&["endpoint", "status", "--write-out=json"])?;
        let status: serde_json::Value = serde_json::from_str(&status)
            .context(Kind::Assets, || "etcd's status makes no sense".into())?;
        let revision = status[0]["Status"]["header"]["revision"].to_string();
        self.etcdctl(&["compact", "--physical", &revision])?;
        self.etcdctl(&["defrag"])?;
        Ok(kept.len())
    }
}

/// Returns the keys to keep and the others, of a list with a key on each line.
fn sort_out(keys: &str) -> (Vec<&str>, Vec<&str>) {
    let keys = keys.lines().filter(|line| !line.is_empty());
    keys.partition(|key| {
        let account = key.strip_prefix(ACCOUNTS);
        account.is_some_and(|name| name != NO_ACCOUNT_OF_THEIRS)
            || KEPT.iter().any(|prefix| key.starts_with(prefix))
    })
}

/// Copies the files of an etcd that has ended, its log without the room for what is to come.
fn take(data: &Path, out: &Path) -> Result<()> {
    let fail = || format!("cannot copy {}", data.display());
    let from = data.join("member");
    for part in ["snap", "wal"] {
        let to = out.join(part);
        fs::create_dir_all(&to).context(Kind::Assets, fail)?;
        for entry in fs::read_dir(from.join(part)).context(Kind::Assets, fail)? {
            let entry = entry.context(Kind::Assets, fail)?;
            let mut bytes = fs::read(entry.path()).context(Kind::Assets, fail)?;
            if part == "wal" {
                cut(&mut bytes);
            }
            fs::write(to.join(entry.file_name()), bytes).context(Kind::Assets, fail)?;
        }
    }
    Ok(())
}

/// Cuts the zeros at the end, but for those that fill a page.
fn cut(bytes: &mut Vec<u8>) {
    let end = bytes
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes.resize(end.next_multiple_of(PAGE), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn what_makes_a_cluster_the_one_that_it_is_goes() {
        let keys = "/registry/clusterroles/admin\n\n/registry/namespaces/kube-system\n\
                    /registry/clusterrolesother/a\n/registry/rolebindings/kube-system/a\ncompact_rev_key\n\
                    /registry/serviceaccounts/default/default\n\
                    /registry/serviceaccounts/kube-system/default\n\
                    /registry/serviceaccounts/kube-system/node-controller\n";
        let (kept, others) = sort_out(keys);
        let wanted = [
            "/registry/clusterroles/admin",
            "/registry/rolebindings/kube-system/a",
            "/registry/serviceaccounts/kube-system/node-controller",
        ];
        assert_eq!(kept, wanted);
        assert_eq!(others.len(), 5, "{others:?}");
    }

    #[test]
    fn zeros_at_the_end_are_cut_to_a_page() {
        for (bytes, length) in [(0, 0), (1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)] {
            let mut file = vec![7; bytes];
            file.resize(bytes + 10 * PAGE, 0);
            cut(&mut file);
            assert_eq!(file.len(), length);
            assert!(file.iter().filter(|b| **b == 7).count() == bytes);
        }
    }

    #[test]
    fn programs_that_do_not_run_here_cost_no_set() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage {
            bin: dir.path().join("bin"),
            images: dir.path().join("stage/images"),
            work: dir.path().join("work"),
            ..Stage::default()
        };
        for folder in [&stage.bin, &stage.images, &stage.work] {
            fs::create_dir_all(folder).unwrap();
        }
        make(&stage, &Silent).unwrap();
        for name in PROGRAMS {
            let path = stage.bin.join(name);
            fs::write(&path, "#!/bin/sh\necho no such processor >&2\nexit 9\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        make(&stage, &Silent).unwrap();
        let out = stage.images.with_file_name("etcd");
        assert!(!out.exists());
        let error = fill(&stage, &out).unwrap_err();
        let details: Vec<_> = error.details().iter().map(|(_, text)| text).collect();
        assert!(
            details.iter().any(|d| d.contains("no such processor")),
            "{error:?}"
        );
    }
}
