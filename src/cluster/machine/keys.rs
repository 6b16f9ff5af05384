//! A node's SSH identity, and the seed that brings it and the first configuration into the node.

use std::path::PathBuf;

use crate::error::{Kind, Result, ResultExt};
use crate::fsutil;
use crate::remote::{self, NodeFile};
use crate::store::ProfileDir;

/// Creates the operator's key and the node's host key where they are missing; returns whether one was.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses.
pub(crate) fn ensure(dir: &ProfileDir) -> Result<bool> {
    let mut made = false;
    for (path, comment) in [(dir.ssh_key(), "kubby"), (dir.host_key(), "kubby-node")] {
        let public = path.with_extension("pub");
        if path.exists() && public.exists() {
            continue;
        }
        fsutil::create_private_dir(fsutil::folder_of(&path))?;
        let pair = remote::generate_key(comment)?;
        fsutil::write_atomic(&path, pair.private_openssh.as_bytes(), 0o600)?;
        fsutil::write_atomic(&public, pair.public_openssh.as_bytes(), 0o644)?;
        made = true;
    }
    Ok(made)
}

/// Fills a profile's folder `handover` with the keys that the node has for now. It is there as a whole or
/// not at all, because no start could reach the node with half of them. The caller holds the shared lock.
///
/// # Errors
/// Those of `fill`; [`Kind::Internal`] when the file system refuses.
pub(crate) fn hand_over(
    dir: &ProfileDir,
    fill: impl FnOnce(&ProfileDir) -> Result<()>,
) -> Result<()> {
    let (staged, to) = (dir.handover_staging(), dir.handover());
    fsutil::remove_all(staged.root())?;
    fill(&staged)?;
    fsutil::replace_folder(staged.root(), &to)
}

/// Removes a profile's folder `handover`: the node has its own keys.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses.
pub(crate) fn end_handover(dir: &ProfileDir) -> Result<()> {
    let staged = dir.handover_staging();
    if !dir.handover().exists() {
        return Ok(());
    }
    // In one step, for the same reason.
    fsutil::remove_all(staged.root())?;
    fsutil::rename(&dir.handover(), staged.root()).context(Kind::Internal, || {
        format!("cannot remove {}", dir.handover().display())
    })?;
    fsutil::remove_all(staged.root())
}

/// Copies the keys of one folder into another.
///
/// # Errors
/// [`Kind::State`] when a key is missing, [`Kind::Internal`] when the file system refuses.
pub(crate) fn copy(from: &ProfileDir, to: &ProfileDir) -> Result<()> {
    for (from, to) in [
        (from.ssh_key(), to.ssh_key()),
        (from.host_key(), to.host_key()),
    ] {
        for (from, to, mode) in [
            (from.clone(), to.clone(), 0o600),
            (from.with_extension("pub"), to.with_extension("pub"), 0o644),
        ] {
            let content = std::fs::read(&from)
                .context(Kind::State, || format!("cannot read {}", from.display()))?;
            fsutil::create_private_dir(fsutil::folder_of(&to))?;
            fsutil::write_atomic(&to, &content, mode)?;
        }
    }
    Ok(())
}

/// Returns the node's files with its SSH host key and the operator's public key.
///
/// # Errors
/// [`Kind::State`] when a key is missing.
pub(crate) fn files(dir: &ProfileDir) -> Result<[NodeFile; 3]> {
    let read = |path: PathBuf| {
        std::fs::read(&path).context(Kind::State, || format!("cannot read {}", path.display()))
    };
    let host_key = "/etc/ssh/ssh_host_ed25519_key";
    Ok([
        NodeFile::new(host_key, 0o600, read(dir.host_key())?),
        NodeFile::new(
            format!("{host_key}.pub"),
            0o644,
            read(dir.host_key().with_extension("pub"))?,
        ),
        NodeFile::new(
            "/root/.ssh/authorized_keys",
            0o600,
            read(dir.ssh_key().with_extension("pub"))?,
        ),
    ])
}

/// Returns the seed: a tar that the node unpacks at boot, before its SSH server starts, so that
/// already the first connection meets a known, pinned host key. It brings a new node's configuration
/// too, so that its units start while the node boots.
///
/// # Errors
/// [`Kind::State`] when a key is missing.
pub(crate) fn seed(dir: &ProfileDir, others: &[NodeFile]) -> Result<Vec<u8>> {
    let fail = || "cannot make the seed volume".into();
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let now = u64::try_from(now).unwrap_or_default();
    let mut archive = tar::Builder::new(Vec::new());
    for file in files(dir)?.iter().chain(others) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        header.set_mtime(now);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(file.content.len() as u64);
        let path = file.path.trim_start_matches('/');
        archive
            .append_data(&mut header, path, file.content.as_slice())
            .context(Kind::Internal, fail)?;
    }
    archive.into_inner().context(Kind::Internal, fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn the_seed_holds_the_identity_with_its_modes() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Store::at(tmp.path(), tmp.path()).profile_dir(&"dev".parse().unwrap());
        assert!(ensure(&dir).unwrap());
        assert!(!ensure(&dir).unwrap());
        let unit = NodeFile::new("/etc/systemd/system/kubby.target", 0o644, "[Unit]\n");
        let bytes = seed(&dir, &[unit]).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<(String, u32)> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                (
                    e.path().unwrap().display().to_string(),
                    e.header().mode().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            entries,
            [
                ("etc/ssh/ssh_host_ed25519_key".to_owned(), 0o600),
                ("etc/ssh/ssh_host_ed25519_key.pub".to_owned(), 0o644),
                ("root/.ssh/authorized_keys".to_owned(), 0o600),
                ("etc/systemd/system/kubby.target".to_owned(), 0o644),
            ]
        );
    }
}
