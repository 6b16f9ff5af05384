//! Copies streams and says which side failed.

use std::io::{ErrorKind, Read, Write};

use super::failure::from_io;
use crate::error::{Kind, Result, ResultExt};
use crate::interrupt;

/// Copies all of `from` to `to`; `copied` is called with the number of bytes so far and may end it.
///
/// # Errors
/// Those of `copied`; [`Kind::Assets`] with the message of the side that failed, or the error that
/// `from` carries; [`Kind::Interrupted`] on Ctrl-C.
pub(in crate::assets) fn copy(
    mut from: impl Read,
    mut to: impl Write,
    read_failed: impl Fn() -> String,
    write_failed: impl Fn() -> String,
    mut copied: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        interrupt::check()?;
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(from_io(e, read_failed)),
        };
        to.write_all(&buffer[..n])
            .context(Kind::Assets, &write_failed)?;
        total += n as u64;
        copied(total)?;
    }
}
