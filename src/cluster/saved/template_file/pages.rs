//! Copying files whose holes are to stay holes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use crate::cluster::saved::state::{PAGE, is_zero};
use crate::interrupt;

/// Copies `size` bytes into an empty file; pages of zeros are left out. `report` gets the number of
/// bytes so far.
///
/// # Errors
/// Those of reading and writing; [`io::ErrorKind::UnexpectedEof`] for a source that ends early and
/// [`io::ErrorKind::Interrupted`] on Ctrl-C.
pub(super) fn copy(
    from: &mut dyn Read,
    to: &File,
    size: u64,
    report: &mut dyn FnMut(u64),
) -> io::Result<()> {
    to.set_len(size)?;
    let mut buffer = vec![0; 256 * PAGE];
    let mut at = 0;
    while at < size {
        if interrupt::check().is_err() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = buffer
            .len()
            .min(usize::try_from(size - at).unwrap_or(usize::MAX));
        let part = &mut buffer[..length];
        from.read_exact(part)?;
        let mut begin = 0;
        // Neighbouring pages are written together.
        while begin < length {
            let mut end = begin;
            while end < length && !is_zero(&part[end..length.min(end + PAGE)]) {
                end += PAGE;
            }
            let end = end.min(length);
            if end > begin {
                to.write_all_at(&part[begin..end], at + begin as u64)?;
            }
            begin = end + PAGE;
        }
        at += length as u64;
        report(at);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_copy_is_the_same_and_its_zeros_are_holes() {
        let mut content = vec![0u8; 5 * 1024 * 1024 + 17];
        content[PAGE * 3 + 5] = 1;
        content[PAGE * 300] = 2;
        *content.last_mut().unwrap() = 3;
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut last = 0;
        copy(
            &mut content.as_slice(),
            file.as_file(),
            content.len() as u64,
            &mut |done| last = done,
        )
        .unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), content);
        assert_eq!(last, content.len() as u64);
        let blocks = file.as_file().metadata().unwrap().blocks();
        assert!(blocks * 512 < 100 * 1024, "{blocks} blocks");
    }

    #[test]
    fn a_source_that_ends_early_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let short = copy(&mut [1u8; 100].as_slice(), file.as_file(), 101, &mut |_| {});
        assert_eq!(short.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
