//! This user may write to kubby's folders, and QEMU's user can get at the pool's.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::cluster::machine::resources;
use crate::doctor::finding::{Finding, quoted};
use crate::doctor::repair::Repair;
use crate::doctor::surroundings::Surroundings;
use crate::hypervisor::reach::Account;

const NAME: &str = "permissions";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut folders = vec![s.store.home().to_owned(), s.store.cache().to_owned()];
    folders.extend(s.profiles.iter().map(|seen| seen.dir.root().to_owned()));
    let closed = folders.iter().filter_map(|path| not_writable(path));
    let mut found: Vec<Finding> = closed.map(|path| judge_folder(&path)).collect();
    for (uri, link) in s.links().filter(|(_, link)| link.host.is_local()) {
        let Some((uid, gid)) = link.host.qemu_ids else {
            continue;
        };
        let pool = s.store.pool_target(uri);
        if let Some(blocked) = Account::of_this_host(uid, gid).blocked_at(&pool) {
            found.push(judge_way(&blocked, &pool, resources::reaches_files(uri)));
        }
    }
    if found.is_empty() {
        found.push(Finding::ok(
            NAME,
            format!(
                "{} and {} can be written to, and QEMU can get at its files",
                s.store.home().display(),
                s.store.cache().display()
            ),
        ));
    }
    found
}

/// The folder itself, or the nearest one above it that is there, if this user may not write to it.
fn not_writable(path: &Path) -> Option<PathBuf> {
    let there = path.ancestors().find(|p| p.exists())?;
    let may = access(there, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    (!may).then(|| there.to_owned())
}

fn judge_folder(path: &Path) -> Finding {
    let owner = std::fs::metadata(path).map(|meta| meta.uid());
    let whose = match owner {
        Ok(0) => "; it is root's, as after a `sudo kubby`",
        _ => "",
    };
    Finding::failure(
        NAME,
        format!("this user may not write to {}{whose}", path.display()),
        format!("sudo chown -R \"$USER\": {}", quoted(path)),
    )
}

/// `blocked` is where QEMU's user does not get through on its way to the pool.
fn judge_way(blocked: &Path, pool: &Path, may_mend: bool) -> Finding {
    let finding = Finding::failure(
        NAME,
        format!(
            "the user that QEMU runs as may not pass through {}, and cannot open its disks in {}",
            blocked.display(),
            pool.display()
        ),
        format!("chmod o+x {}", quoted(blocked)),
    );
    // Folders above it are not kubby's to open.
    if blocked == pool && may_mend {
        return finding.with(Repair::Restrict(vec![(pool.to_owned(), 0o711)]));
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn only_the_pools_own_folder_is_opened() {
        let pool = Path::new("/var/lib/libvirt/images/kubby");
        for (blocked, may_mend, fixable) in [
            ("/var/lib/libvirt/images/kubby", true, true),
            ("/var/lib/libvirt/images/kubby", false, false),
            ("/var/lib", true, false),
        ] {
            let found = judge_way(Path::new(blocked), pool, may_mend);
            assert_eq!(found.state, State::Failure);
            assert_eq!(found.fixable, fixable, "{blocked} {may_mend}");
            assert_eq!(found.remedy.unwrap(), format!("chmod o+x {blocked}"));
        }
    }

    #[test]
    fn what_is_not_there_is_judged_by_what_is_above_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(not_writable(&dir.path().join("a/b")), None);
        let found = judge_folder(Path::new("/"));
        assert!(found.reason.contains("sudo kubby"), "{}", found.reason);
    }
}
