//! A bundle as one file.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Bundle;
use crate::error::{Kind, Result, ResultExt};
use crate::fsutil;

/// Checks that a bundle could be written to this file, or with `-` to standard output.
///
/// # Errors
/// [`Kind::Usage`] otherwise.
pub(crate) fn check_destination(to: &Path) -> Result<()> {
    let hint = "kubby logs --bundle FILE.tar.gz";
    fsutil::check_destination(to, "a bundle", "bundle.tar.gz", hint)
}

impl Bundle {
    /// Writes it as tar.gz to a file with mode 0600, whole or not at all, or with `-` to standard
    /// output. Returns its size in bytes.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be written.
    pub(crate) fn write(&self, to: &Path) -> Result<u64> {
        let bytes = self
            .pack()
            .context(Kind::Internal, || "cannot pack the bundle".into())?;
        if to == Path::new("-") {
            let mut out = io::stdout().lock();
            out.write_all(&bytes)
                .and_then(|()| out.flush())
                .context(Kind::Internal, || "cannot write to standard output".into())?;
        } else {
            fsutil::write_atomic(to, &bytes, 0o600)?;
        }
        Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
    }

    fn pack(&self) -> io::Result<Vec<u8>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, text) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o600);
            header.set_size(text.len() as u64);
            header.set_mtime(now.as_ref().map_or(0, std::time::Duration::as_secs));
            let path = format!("{}/{name}", self.folder);
            archive.append_data(&mut header, path, text.as_bytes())?;
        }
        archive.into_inner()?.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_bundle_is_private_and_holds_its_files_in_one_folder() {
        let bundle = Bundle {
            folder: "kubby-dev".into(),
            files: vec![("node/system.txt".into(), "text\n".into())],
            problems: vec![],
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("b.tar.gz");
        let bytes = bundle.write(&file).unwrap();
        let meta = std::fs::metadata(&file).unwrap();
        assert_eq!(
            (meta.len(), meta.permissions().mode() & 0o777),
            (bytes, 0o600)
        );
        let open = std::fs::File::open(&file).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(open));
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(
            entry.path().unwrap(),
            Path::new("kubby-dev/node/system.txt")
        );
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text\n");
        assert!(entries.next().is_none());
    }

    #[test]
    fn a_destination_that_makes_no_sense_is_told_before() {
        let dir = tempfile::tempdir().unwrap();
        for (to, words) in [
            (dir.path().to_owned(), "is a folder"),
            (dir.path().join("no/b.tar.gz"), "there is no folder"),
        ] {
            let e = check_destination(&to).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage);
            assert!(e.message().contains(words), "{e}");
        }
        check_destination(&dir.path().join("b.tar.gz")).unwrap();
    }
}
