//! The PKI's files: their names, and reading and writing them for the owner alone.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::names::CertName;
use crate::error::{Kind, Result, ResultExt as _};
use crate::fsutil;

/// The service-account key's files: private and public.
pub(super) const SERVICE_ACCOUNT: (&str, &str) = ("sa.key", "sa.pub");

/// Returns the file of a certificate, below the PKI's directory.
pub(super) fn cert(name: CertName) -> String {
    format!("{}.crt", name.stem())
}

/// Returns the file of a certificate's key, below the PKI's directory.
pub(super) fn key(name: CertName) -> String {
    format!("{}.key", name.stem())
}

/// Returns a file's text, if it is there, and takes access away from others.
pub(super) fn read(dir: &Path, file: &str) -> Result<Option<String>> {
    let path = dir.join(file);
    let fail = || format!("cannot read {}", path.display());
    let Some(text) = look(dir, file)? else {
        return Ok(None);
    };
    let mode = fs::metadata(&path)
        .context(Kind::Internal, fail)?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .context(Kind::Internal, fail)?;
    }
    Ok(Some(text))
}

/// Returns a file's text, if it is there. Bytes that are not text are replaced, so that a parser
/// finds it damaged.
pub(super) fn look(dir: &Path, file: &str) -> Result<Option<String>> {
    let path = dir.join(file);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).context(Kind::Internal, || format!("cannot read {}", path.display())),
    }
}

/// Writes a file whole, which no other user can read.
pub(super) fn write(dir: &Path, file: &str, text: &str) -> Result<()> {
    fsutil::write_atomic(&dir.join(file), text.as_bytes(), 0o600)
}
