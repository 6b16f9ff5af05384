//! This user may write to kubby's folders, and QEMU's user can open the pool's files.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::cluster::machine::host::reaches_files;
use crate::doctor::context::DoctorContext;
use crate::doctor::files::quoted;
use crate::doctor::finding::{Finding, or};
use crate::doctor::repair::Repair;
use crate::hypervisor::reach::Account;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let (home, cache) = (s.env.store.home(), s.env.store.cache());
    let profiles = s.profiles.iter().map(|seen| seen.dir.root());
    let folders = [home, cache].into_iter().chain(profiles);
    let closed = folders.filter_map(not_writable);
    let mut found: Vec<Finding> = closed.map(|path| judge_folder(&path)).collect();
    for (uri, link) in s.local_links() {
        let Some((uid, gid)) = link.info.qemu_ids else {
            continue;
        };
        let pool = s.env.store.pool_target(uri);
        if let Some(blocked) = Account::of_this_host(uid, gid).blocked_at(&pool) {
            found.push(judge_pool(&blocked, &pool, reaches_files(uri)));
        }
    }
    let (home, cache) = (home.display(), cache.display());
    let fine = format!("{home} and {cache} can be written to, and QEMU can open its files");
    or(found, Finding::ok(fine))
}

/// Returns the folder, or the nearest existing one above it, if this user may not write to it.
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
        format!("this user may not write to {}{whose}", path.display()),
        format!("sudo chown -R \"$USER\": {}", quoted(path)),
    )
}

/// Judges a pool whose path QEMU's user may not pass at the folder `blocked`.
fn judge_pool(blocked: &Path, pool: &Path, may_repair: bool) -> Finding {
    let finding = Finding::failure(
        format!(
            "the user that QEMU runs as may not pass through {}, and cannot open its disks in {}",
            blocked.display(),
            pool.display()
        ),
        format!("chmod o+x {}", quoted(blocked)),
    );
    // The folders above it are not kubby's to open.
    if blocked == pool && may_repair {
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
        for (blocked, may_repair, fixable) in [
            ("/var/lib/libvirt/images/kubby", true, true),
            ("/var/lib/libvirt/images/kubby", false, false),
            ("/var/lib", true, false),
        ] {
            let found = judge_pool(Path::new(blocked), pool, may_repair);
            assert_eq!(found.state, State::Failure);
            assert_eq!(found.fixable, fixable, "{blocked} {may_repair}");
            assert_eq!(found.remedy.unwrap(), format!("chmod o+x {blocked}"));
        }
    }

    #[test]
    fn a_missing_folder_is_judged_by_the_one_above_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(not_writable(&dir.path().join("a/b")), None);
        let found = judge_folder(Path::new("/"));
        assert!(found.reason.contains("sudo kubby"), "{}", found.reason);
    }
}
