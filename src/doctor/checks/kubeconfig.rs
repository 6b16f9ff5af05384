//! The user's kubeconfig: it can be read and written, and has each cluster's context as it should be.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access as May, access};

use crate::cluster::{Cluster, context};
use crate::doctor::context::DoctorContext;
use crate::doctor::files::quoted;
use crate::doctor::finding::{self, Finding, explain, or};
use crate::doctor::repair::Repair;
use crate::error::Result;
use crate::fsutil;
use crate::kubeconfig::{self, Entry, State};
use crate::profile::{Profile, ProfileName};

/// The age from which a lock counts as abandoned; kubectl holds its lock for milliseconds.
const ABANDONED: Duration = Duration::from_secs(60);

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(e) = &s.default_kubeconfig {
        let remedy = "export KUBECONFIG=$HOME/.kube/config";
        found.push(Finding::of_error(e, remedy));
    }
    let mut unusable = Vec::new();
    for file in s.kubeconfigs() {
        if let Some(finding) = of_file(file) {
            if finding.state == finding::State::Failure {
                unusable.push(file);
            }
            found.push(finding);
        }
    }
    for (seen, profile) in s.settled() {
        let file = profile.kubeconfig.as_path();
        if unusable.contains(&file) {
            continue;
        }
        let cluster = Cluster {
            profile: profile.clone(),
            dir: seen.dir.clone(),
        };
        // Without certificates there is nothing to compare with; they have a check of their own.
        let Ok(entry) = context::expected(&cluster, s.env.store) else {
            continue;
        };
        found.extend(of_cluster(s, profile, &entry));
        let choice = judge_choice(file, &kubeconfig::listed_paths().unwrap_or_default());
        // Clusters that share a file share the problem.
        found.extend(choice.filter(|finding| !found.contains(finding)));
    }
    or(
        found,
        Finding::ok("each cluster's context is as it should be"),
    )
}

fn of_cluster(s: &DoctorContext<'_>, profile: &Profile, entry: &Entry) -> Option<Finding> {
    let file = &profile.kubeconfig;
    let text = kubeconfig::load(file).ok().flatten();
    let owner = context::owner(s.env.store, &profile.name);
    let foreign = kubeconfig::check_foreign(text.as_deref(), &entry.name, &owner);
    match kubeconfig::inspect(text.as_deref(), entry) {
        Ok(status) => judge(file, &entry.name, status.state, foreign, &profile.name),
        Err(e) => Some(Finding::of_error(&e, "correct the file")),
    }
}

/// Judges the file itself. A missing file is made by `start`.
fn of_file(file: &Path) -> Option<Finding> {
    let path = file.display();
    let mut lock = file.as_os_str().to_owned();
    lock.push(".lock");
    let lock = PathBuf::from(lock);
    let changed = lock.symlink_metadata().and_then(|m| m.modified());
    let age = changed.ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age > ABANDONED) {
        return Some(Finding::failure(
            format!(
                "{path} is locked by a program that has probably died: no program can write to it"
            ),
            format!("if no kubectl or kubby runs: rm -f {}", quoted(&lock)),
        ));
    }
    let text = match kubeconfig::load(file) {
        Ok(text) => text?,
        Err(e) => return Some(Finding::of_error(&e, "ls -l on the file")),
    };
    if let Err(e) = kubeconfig::owned(&text) {
        let view = "correct the file; kubectl shows the error: kubectl config view --kubeconfig";
        return Some(Finding::failure(
            format!("{path} cannot be edited: {}", explain(&e)),
            format!("{view} {}", quoted(file)),
        ));
    }
    if access(file, May::WRITE_OK).is_err() {
        return Some(Finding::failure(
            format!("this user may not write to {path}"),
            format!("sudo chown \"$USER\": {}", quoted(file)),
        ));
    }
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    judge_mode(file, mode, &text)
}

/// Judges the file's mode. A file without keys is not secret.
fn judge_mode(file: &Path, mode: u32, text: &str) -> Option<Finding> {
    let secret = ["client-key-data", "token", "password"];
    let open = mode & 0o077 != 0 && secret.iter().any(|word| text.contains(word));
    open.then(|| {
        Finding::warning(
            format!("others can read the keys in {}", file.display()),
            format!("chmod 600 {}", quoted(file)),
        )
    })
}

/// Judges the context `name` of a profile; `foreign` says whether the entry is another's.
fn judge(
    file: &Path,
    name: &str,
    state: State,
    foreign: Result<()>,
    profile: &ProfileName,
) -> Option<Finding> {
    let path = file.display();
    if let Err(e) = foreign {
        return Some(Finding::of_error(&e, "kubectl config get-contexts"));
    }
    let why = match state {
        State::Configured => return None,
        State::Missing => format!("the context `{name}` is missing in {path}"),
        State::Misconfigured { why } => format!("{path} does not fit its cluster: {why}"),
    };
    let flag = profile.flag();
    let remedy = format!("kubby doctor --fix writes it again, as kubby start{flag} does");
    let profile = profile.clone();
    Some(Finding::failure(why, remedy).with(Repair::WriteContext { profile }))
}

/// Judges whether kubectl reads the file that has the context.
fn judge_choice(file: &Path, in_use: &[PathBuf]) -> Option<Finding> {
    if in_use.iter().any(|used| fsutil::same_place(used, file)) {
        return None;
    }
    let path = file.display();
    Some(Finding::warning(
        format!("there is a context in {path}, which kubectl does not read in this shell"),
        format!("export KUBECONFIG={}", quoted(file)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State as Bad;
    use crate::error::Error;

    #[test]
    fn contexts_are_written_again_unless_they_are_anothers() {
        let file = Path::new("/k/config");
        let dev: ProfileName = "dev".parse().unwrap();
        let look = |state, foreign| judge(file, "kubby-dev", state, foreign, &dev);
        assert_eq!(look(State::Configured, Ok(())), None);
        let missing = look(State::Missing, Ok(())).unwrap();
        assert!(missing.fixable && missing.reason.contains("`kubby-dev` is missing"));
        assert!(missing.remedy.unwrap().contains("kubby start -p dev"));
        let why = "the cluster `kubby-dev` has another server".to_owned();
        let other = look(State::Misconfigured { why }, Ok(())).unwrap();
        assert!(other.fixable && other.reason.contains("another server"));
        let foreign = Err(Error::kubeconfig("it is another's").with_hint("rename"));
        let theirs = look(State::Missing, foreign).unwrap();
        assert!(!theirs.fixable && theirs.state == Bad::Failure);
        assert_eq!(theirs.remedy.as_deref(), Some("rename"));
    }

    #[test]
    fn open_files_and_files_that_kubectl_does_not_read_are_warned_of() {
        let file = Path::new("/k/config");
        assert_eq!(judge_mode(file, 0o644, "apiVersion: v1\n"), None);
        assert_eq!(judge_mode(file, 0o600, "token: x\n"), None);
        let found = judge_mode(file, 0o640, "token: x\n").unwrap();
        assert_eq!(found.state, Bad::Warning);
        assert_eq!(judge_choice(file, &["/a".into(), "/k/config".into()]), None);
        let found = judge_choice(file, &["/a".into()]).unwrap();
        assert_eq!(found.remedy.as_deref(), Some("export KUBECONFIG=/k/config"));
    }

    #[test]
    fn damaged_and_locked_files_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        assert_eq!(of_file(&file), None);
        std::fs::write(&file, "clusters: {").unwrap();
        assert!(of_file(&file).unwrap().reason.contains("cannot be edited"));
        std::fs::write(&file, "apiVersion: v1\nkind: Config\n").unwrap();
        assert_eq!(of_file(&file), None);
        let lock = std::fs::File::create(dir.path().join("config.lock")).unwrap();
        assert_eq!(of_file(&file), None);
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        lock.set_modified(old).unwrap();
        assert!(of_file(&file).unwrap().remedy.unwrap().contains("rm -f"));
    }
}
