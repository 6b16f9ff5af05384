//! One file that holds a node image, to carry it to hosts that cannot or should not build it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::NodeImage;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::{Progress, Step};
use crate::units::{hex, human_bytes};
use crate::{fsutil, interrupt};

/// What [`export`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The disk image; the kernel and the initrd are files of its `/boot`.
    pub file: PathBuf,
    /// The file beside it that holds the digest, in the form that `sha256sum --check` reads.
    pub checksum_file: PathBuf,
    /// The SHA-256 of `file` in lower-case hex, as [`prebuilt`](super::prebuilt()) takes it.
    pub sha256: String,
    /// The size of `file` in bytes.
    pub size: u64,
}

/// Writes an image to the one file `to`, compressed where `gzip` is set, and its SHA-256 to the
/// same name with `.sha256` added. Existing files are replaced when everything is written.
///
/// # Errors
/// [`Kind::Assets`] when a file cannot be read or written; [`Kind::Interrupted`] on Ctrl-C.
pub fn export(
    image: &NodeImage,
    to: &Path,
    gzip: bool,
    progress: &dyn Progress,
) -> Result<Exported> {
    let fail = || format!("cannot write {}", to.display());
    let Some(name) = to.file_name() else {
        return Err(Error::new(
            Kind::Usage,
            format!("{} is not the name of a file", to.display()),
        ));
    };
    let step = progress.step("Export the node image");
    let dir = to
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".kubby-export-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(dir)
        .context(Kind::Assets, fail)?;
    let hashing = HashingWriter {
        inner: temporary.as_file_mut(),
        hash: Sha256::new(),
        size: 0,
    };
    let (hash, size) = if gzip {
        let mut encoder = GzEncoder::new(hashing, Compression::default());
        copy(&image.disk, &mut encoder, &step)?;
        encoder.finish().context(Kind::Assets, fail)?.result()
    } else {
        let mut hashing = hashing;
        copy(&image.disk, &mut hashing, &step)?;
        hashing.result()
    };
    temporary.as_file().sync_all().context(Kind::Assets, fail)?;
    temporary.persist(to).context(Kind::Assets, fail)?;

    let mut checksum_file = to.as_os_str().to_owned();
    checksum_file.push(".sha256");
    let checksum_file = PathBuf::from(checksum_file);
    let line = format!("{hash}  {}\n", name.to_string_lossy());
    fsutil::write_atomic(&checksum_file, line.as_bytes(), 0o644)?;
    step.done(format!("{}, {}", to.display(), human_bytes(size)));
    Ok(Exported {
        file: to.to_owned(),
        checksum_file,
        sha256: hash,
        size,
    })
}

fn copy(from: &Path, to: &mut impl Write, step: &Step) -> Result<()> {
    let fail = || format!("cannot read {}", from.display());
    let mut file = File::open(from).context(Kind::Assets, fail)?;
    let total = file.metadata().context(Kind::Assets, fail)?.len();
    let mut done = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        interrupt::check()?;
        let n = file.read(&mut buffer).context(Kind::Assets, fail)?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n]).context(Kind::Assets, || {
            "cannot write the exported node image".into()
        })?;
        done += n as u64;
        step.bytes(done, Some(total));
    }
}

/// Hashes and counts what passes through, which is the file as it will be given to others.
struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> HashingWriter<W> {
    fn result(self) -> (String, u64) {
        (hex(&self.hash.finalize()), self.size)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn image(dir: &Path) -> NodeImage {
        let disk = dir.join("disk");
        fs::write(&disk, "content of the disk").unwrap();
        NodeImage {
            key: "k".into(),
            kernel: disk.clone(),
            initrd: disk.clone(),
            disk,
            virtual_size: 1,
        }
    }

    #[test]
    fn the_digest_is_that_of_the_file_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path());
        for (name, gzip) in [("plain.qcow2", false), ("small.qcow2.gz", true)] {
            let to = dir.path().join(name);
            fs::write(&to, "an older one").unwrap();
            let out = export(&image, &to, gzip, &Silent).unwrap();
            assert_eq!(
                out.sha256,
                crate::assets::record::sha256_of_file(&to).unwrap()
            );
            assert_eq!(out.size, fs::metadata(&to).unwrap().len());
            assert_eq!(
                fs::read_to_string(&out.checksum_file).unwrap(),
                format!("{}  {name}\n", out.sha256)
            );
            let mut text = String::new();
            if gzip {
                flate2::read::GzDecoder::new(File::open(&to).unwrap())
                    .read_to_string(&mut text)
                    .unwrap();
            } else {
                text = fs::read_to_string(&to).unwrap();
            }
            assert_eq!(text, "content of the disk");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("missing/node.qcow2");
        let e = export(&image(dir.path()), &to, false, &Silent).unwrap_err();
        assert!(e.message().contains("missing/node.qcow2"), "{e}");
        let e = export(&image(dir.path()), Path::new("/"), false, &Silent).unwrap_err();
        assert_eq!(e.kind(), Kind::Usage);
    }
}
