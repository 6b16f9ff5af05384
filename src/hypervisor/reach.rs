//! The permission of QEMU's user to open files and to pass through directories.
//!
//! Under `qemu:///system` QEMU runs as a user of its own. It must pass through every directory
//! above a disk, and it must be able to open `/dev/kvm`: where only the daemon can, libvirt takes
//! its record of QEMU's abilities for outdated at every call and spends seconds on a new one.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A user with all its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    uid: u32,
    groups: Vec<u32>,
}

impl Account {
    /// Returns the account of `uid` when libvirt runs QEMU as it with the group `gid`, and its
    /// groups in this host's `/etc/passwd` and `/etc/group`.
    pub(crate) fn of_this_host(uid: u32, gid: u32) -> Self {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = fs::read_to_string("/etc/group").unwrap_or_default();
        Self::from_files(uid, gid, &passwd, &group)
    }

    fn from_files(uid: u32, gid: u32, passwd: &str, group: &str) -> Self {
        let entry = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|f| f.len() > 3 && f[2] == uid.to_string());
        let name = entry.as_ref().map(|fields| fields[0]);
        // libvirt gives QEMU the user's own primary group besides the one it is configured with.
        let primary: Option<u32> = entry.as_ref().and_then(|fields| fields[3].parse().ok());
        let mut groups = vec![gid];
        groups.extend(primary.filter(|id| *id != gid));
        for line in group.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let &[_, _, id, members] = fields.as_slice() else {
                continue;
            };
            let member = name.is_some_and(|name| members.split(',').any(|m| m == name));
            if let (true, Ok(id)) = (member, id.parse()) {
                groups.push(id);
            }
        }
        Account { uid, groups }
    }

    /// Returns whether the classic permission bits grant all of `wanted` (4 read, 2 write, 1
    /// search).
    fn may(&self, wanted: u32, mode: u32, owner: u32, group: u32) -> bool {
        if self.uid == 0 {
            return true;
        }
        let shift = if owner == self.uid {
            6
        } else if self.groups.contains(&group) {
            3
        } else {
            0
        };
        (mode >> shift) & wanted == wanted
    }

    fn may_on(&self, wanted: u32, meta: &Metadata) -> bool {
        self.may(wanted, meta.mode(), meta.uid(), meta.gid())
    }

    /// Returns whether the account may open this file, such as `/dev/kvm`, for reading and writing.
    /// A file that is not there cannot be opened.
    pub(crate) fn may_open(&self, file: &Path) -> bool {
        fs::metadata(file).is_ok_and(|meta| self.may_on(6, &meta))
    }

    /// Returns the first directory on the way to `path` that the account may not pass through;
    /// `path` itself counts when it is a directory. What does not exist yet is not in the way.
    pub(crate) fn blocked_at(&self, path: &Path) -> Option<PathBuf> {
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        ancestors
            .into_iter()
            .find(|dir| fs::metadata(dir).is_ok_and(|meta| meta.is_dir() && !self.may_on(1, &meta)))
            .map(Path::to_path_buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:107::/:/bin/false\nbroken\n";
    const GROUP: &str = "kvm:x:106:libvirt-qemu,me\nother:x:200:me\nbroken\nlq:x:107:\n";

    #[test]
    fn groups_come_from_the_group_file() {
        let groups = |uid, gid| Account::from_files(uid, gid, PASSWD, GROUP).groups;
        assert_eq!(groups(64055, 107), [107, 106]);
        assert_eq!(groups(64055, 64055), [64055, 107, 106]);
        assert_eq!(groups(7, 8), [8]);
    }

    #[test]
    fn the_first_fitting_class_of_permissions_counts() {
        let account = Account {
            uid: 10,
            groups: vec![20],
        };
        let table = [
            // (wanted, mode, owner, group, granted)
            (6, 0o600, 10, 1, true),
            (6, 0o660, 1, 20, true),
            (6, 0o606, 1, 20, false),
            (6, 0o066, 10, 20, false),
            (6, 0o600, 0, 0, false),
            (1, 0o711, 0, 0, true),
            (1, 0o700, 0, 0, false),
        ];
        for (wanted, mode, owner, group, granted) in table {
            assert_eq!(
                account.may(wanted, mode, owner, group),
                granted,
                "{mode:o} {owner} {group}"
            );
        }
        assert!(
            Account {
                uid: 0,
                groups: vec![]
            }
            .may(7, 0, 5, 5)
        );
    }

    #[test]
    fn the_outermost_closed_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(dir.path(), 0o711);
        set(&closed, 0o700);
        set(&inner, 0o700);
        let stranger = Account {
            uid: 4_000_000,
            groups: vec![4_000_000],
        };
        assert_eq!(
            stranger.blocked_at(&inner.join("new")),
            Some(closed.clone())
        );
        set(&closed, 0o711);
        assert_eq!(stranger.blocked_at(&inner), Some(inner.clone()));
        set(&inner, 0o711);
        assert_eq!(stranger.blocked_at(&inner.join("new")), None);
    }
}
