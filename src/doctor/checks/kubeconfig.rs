//! The user's kubeconfig: it can be read and written, and has each cluster's context as it should be.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access as May, access};

use crate::cluster::Access;
use crate::cluster::context;
use crate::cluster::machine::preflight;
use crate::doctor::finding::{Finding, explain, quoted};
use crate::doctor::repair::Repair;
use crate::doctor::surroundings::Surroundings;
use crate::error::Result;
use crate::kubeconfig::{self, Entry, State};

const NAME: &str = "kubeconfig";

/// kubectl holds its lock for milliseconds.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(e) = &s.default_kubeconfig {
        found.push(Finding::of_error(
            NAME,
            e,
            "export KUBECONFIG=$HOME/.kube/config",
        ));
    }
    let mut good = Vec::new();
    for file in s.kubeconfigs() {
        match of_file(file) {
            Some(finding) if finding.state == crate::doctor::State::Failure => found.push(finding),
            other => {
                found.extend(other);
                good.push(file);
            }
        }
    }
    for (seen, profile) in s
        .settled()
        .filter(|(_, p)| good.contains(&p.kubeconfig.as_path()))
    {
        let access = Access {
            profile: profile.clone(),
            dir: seen.dir.clone(),
        };
        // Without certificates there is nothing to compare with; they have a check of their own.
        let Ok(entry) = context::expected(&access, s.store) else {
            continue;
        };
        let text = kubeconfig::load(&profile.kubeconfig).ok().flatten();
        let owner = preflight::kubeconfig_owner(s.store, &seen.name);
        let foreign = kubeconfig::check_foreign(text.as_deref(), &entry.name, &owner);
        match kubeconfig::inspect(text.as_deref(), &entry) {
            Ok(status) => {
                let repair = Repair::WriteContext {
                    profile: seen.name.clone(),
                };
                let judged = judge(&profile.kubeconfig, &entry, status.state, foreign, repair);
                found.extend(judged);
            }
            Err(e) => found.push(Finding::of_error(NAME, &e, "correct the file")),
        }
        let choice = judge_choice(&profile.kubeconfig, &in_use());
        // Clusters that share a file share the trouble.
        found.extend(choice.filter(|finding| !found.contains(finding)));
    }
    if found.is_empty() {
        found.push(Finding::ok(
            NAME,
            "each cluster's context is as it should be",
        ));
    }
    found
}

/// The files that kubectl reads in this environment.
fn in_use() -> Vec<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG");
    let listed = listed.iter().flat_map(std::env::split_paths);
    let mut files: Vec<PathBuf> = listed.filter(|p| !p.as_os_str().is_empty()).collect();
    if files.is_empty() {
        files.extend(kubeconfig::default_path());
    }
    files
}

/// What is wrong with the file itself. A file that is not there is made by `start`.
fn of_file(file: &Path) -> Option<Finding> {
    let path = file.display();
    let mut lock = file.as_os_str().to_owned();
    lock.push(".lock");
    let lock = PathBuf::from(lock);
    let age = std::fs::symlink_metadata(&lock).and_then(|m| m.modified());
    let age = age.ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age > LEFT_BEHIND) {
        return Some(Finding::failure(
            NAME,
            format!("{path} is locked by a program that has probably died: nobody can write to it"),
            format!("if no kubectl or kubby runs: rm -f {}", quoted(&lock)),
        ));
    }
    let text = match kubeconfig::load(file) {
        Ok(None) => return None,
        Ok(Some(text)) => text,
        Err(e) => return Some(Finding::of_error(NAME, &e, "ls -l on the file")),
    };
    if let Err(e) = kubeconfig::owned(&text) {
        return Some(Finding::failure(
            NAME,
            format!("{path} cannot be edited: {}", explain(&e)),
            format!(
                "correct the file; what kubectl says: kubectl config view --kubeconfig {}",
                quoted(file)
            ),
        ));
    }
    if access(file, May::WRITE_OK).is_err() {
        return Some(Finding::failure(
            NAME,
            format!("this user may not write to {path}"),
            format!("sudo chown \"$USER\": {}", quoted(file)),
        ));
    }
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    judge_mode(file, mode, &text)
}

/// A file without keys is nobody's secret.
fn judge_mode(file: &Path, mode: u32, text: &str) -> Option<Finding> {
    let secret = ["client-key-data", "token", "password"];
    let open = mode & 0o077 != 0 && secret.iter().any(|word| text.contains(word));
    open.then(|| {
        Finding::warning(
            NAME,
            format!("others can read the keys in {}", file.display()),
            format!("chmod 600 {}", quoted(file)),
        )
    })
}

fn judge(
    file: &Path,
    entry: &Entry,
    state: State,
    foreign: Result<()>,
    repair: Repair,
) -> Option<Finding> {
    let (name, path) = (&entry.name, file.display());
    if let Err(e) = foreign {
        return Some(Finding::of_error(NAME, &e, "kubectl config get-contexts"));
    }
    let why = match state {
        State::Configured => return None,
        State::Missing => format!("the context `{name}` is missing in {path}"),
        State::Misconfigured { why } => format!("{path} does not fit its cluster: {why}"),
    };
    let flag = entry.owner.profile.parse().map_or_else(
        |_| String::new(),
        |profile: crate::profile::ProfileName| profile.flag(),
    );
    let remedy = format!("kubby doctor --fix writes it anew, as kubby start{flag} does");
    Some(Finding::failure(NAME, why, remedy).with(repair))
}

/// A context in a file that kubectl does not read is of no use.
fn judge_choice(file: &Path, in_use: &[PathBuf]) -> Option<Finding> {
    if in_use.iter().any(|used| used == file) {
        return None;
    }
    Some(Finding::warning(
        NAME,
        format!(
            "there is a context in {}, which kubectl does not read in this shell",
            file.display()
        ),
        format!("export KUBECONFIG={}", quoted(file)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State as Bad;
    use crate::error::{Error, Kind};
    use crate::kubeconfig::Owner;

    #[test]
    fn contexts_are_written_anew_unless_they_are_anothers() {
        let entry = Entry {
            name: "kubby-dev".into(),
            server: String::new(),
            ca_pem: String::new(),
            client_cert_pem: String::new(),
            client_key_pem: String::new(),
            owner: Owner {
                profile: "dev".into(),
                home: "/h".into(),
            },
        };
        let file = Path::new("/k/config");
        let look = |state, foreign| {
            let repair = Repair::WriteContext {
                profile: "dev".parse().unwrap(),
            };
            judge(file, &entry, state, foreign, repair)
        };
        assert_eq!(look(State::Configured, Ok(())), None);
        let missing = look(State::Missing, Ok(())).unwrap();
        assert!(missing.fixable && missing.reason.contains("`kubby-dev` is missing"));
        assert!(missing.remedy.unwrap().contains("kubby start -p dev"));
        let why = "the cluster `kubby-dev` has another server".to_owned();
        let other = look(State::Misconfigured { why }, Ok(())).unwrap();
        assert!(other.fixable && other.reason.contains("another server"));
        let foreign = Err(Error::new(Kind::Kubeconfig, "it is another's").with_hint("rename"));
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
