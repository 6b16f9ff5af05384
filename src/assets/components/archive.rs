//! Takes single files out of release tarballs.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;

use crate::error::{Error, Kind, Result, ResultExt};

/// No program of a release is bigger.
const MOST: u64 = 1 << 30;

/// Writes the members `wanted` (path in the archive, destination) of a gzipped tarball as
/// executables. An archive with a member that points outside of it is refused as a whole.
pub(super) fn extract(archive: &Path, wanted: &[(String, PathBuf)]) -> Result<()> {
    let fail = || format!("cannot unpack {}", archive.display());
    let file = File::open(archive).context(Kind::Assets, fail)?;
    extract_from(GzDecoder::new(file), &fail, wanted)
}

/// Does what [`extract`] does with a tarball that is not compressed.
pub(crate) fn extract_from(
    source: impl Read,
    fail: &dyn Fn() -> String,
    wanted: &[(String, PathBuf)],
) -> Result<()> {
    let mut tar = tar::Archive::new(source);
    let mut missing: Vec<&(String, PathBuf)> = wanted.iter().collect();
    for entry in tar.entries().context(Kind::Assets, fail)? {
        let mut entry = entry.context(Kind::Assets, fail)?;
        let path = entry.path().context(Kind::Assets, fail)?.into_owned();
        let refuse = |why: &str| {
            let message = format!("{}: the member {} {why}", fail(), path.display());
            Error::assets(message)
        };
        if path
            .components()
            .any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
        {
            return Err(refuse("points outside of the archive"));
        }
        let clean: PathBuf = path
            .components()
            .filter(|c| matches!(c, Component::Normal(_)))
            .collect();
        let Some(at) = missing
            .iter()
            .position(|(member, _)| clean == Path::new(member))
        else {
            continue;
        };
        if !entry.header().entry_type().is_file() || entry.size() > MOST {
            return Err(refuse("is not a program"));
        }
        let (_, destination) = missing.swap_remove(at);
        let mut out = File::create(destination).context(Kind::Assets, fail)?;
        std::io::copy(&mut entry, &mut out).context(Kind::Assets, fail)?;
        fs::set_permissions(destination, fs::Permissions::from_mode(0o755))
            .context(Kind::Assets, fail)?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(member, _)| member.as_str()).collect();
    Err(Error::assets(format!(
        "{}: it lacks {}",
        fail(),
        names.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn archive(members: &[(&str, tar::EntryType)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let gz = flate2::write::GzEncoder::new(
            File::create(dir.path().join("a.tgz")).unwrap(),
            flate2::Compression::fast(),
        );
        let mut tar = tar::Builder::new(gz);
        for (name, kind) in members {
            let mut header = tar::Header::new_gnu();
            // Written past the checks of the crate, which would not make such an archive.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(if kind.is_file() { 3 } else { 0 });
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(
                &header,
                if kind.is_file() {
                    &b"abc"[..]
                } else {
                    &b""[..]
                },
            )
            .unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap().flush().unwrap();
        dir
    }

    fn extract_etcd(members: &[(&str, tar::EntryType)]) -> (Result<()>, tempfile::TempDir) {
        let dir = archive(members);
        let wanted = [("e/etcd".to_owned(), dir.path().join("out"))];
        (extract(&dir.path().join("a.tgz"), &wanted), dir)
    }

    #[test]
    fn wanted_members_come_out_executable_and_others_do_not() {
        let file = tar::EntryType::Regular;
        let (result, dir) = extract_etcd(&[("e/README", file), ("./e/etcd", file)]);
        result.unwrap();
        let out = dir.path().join("out");
        assert_eq!(fs::read(&out).unwrap(), b"abc");
        assert_eq!(
            fs::metadata(&out).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn members_that_escape_are_refused_whatever_is_wanted() {
        let file = tar::EntryType::Regular;
        for bad in ["../evil", "e/../../evil", "/etc/evil"] {
            let (result, dir) = extract_etcd(&[(bad, file), ("e/etcd", file)]);
            let error = result.unwrap_err();
            assert!(error.message().contains("points outside"), "{bad}: {error}");
            assert!(!dir.path().join("out").exists());
        }
    }

    #[test]
    fn a_link_or_nothing_in_place_of_a_program_is_refused() {
        let (result, _dir) = extract_etcd(&[("e/etcd", tar::EntryType::Symlink)]);
        assert!(result.unwrap_err().message().contains("not a program"));
        let (result, _dir) = extract_etcd(&[("etcd", tar::EntryType::Regular)]);
        assert!(result.unwrap_err().message().contains("lacks e/etcd"));
    }

    #[test]
    fn garbage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "no archive").unwrap();
        assert!(extract(&dir.path().join("a"), &[]).is_err());
    }
}
