//! One file that holds a node image, to carry it to hosts that cannot or should not build it.

use std::fs::File;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::NodeImage;
use crate::assets::download::copy;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::{self, Digesting, WholeFile};
use crate::progress::Progress;
use crate::units::human_bytes;

/// Writes an image's disk to the one file `to`, compressed where `gzip` is set; the kernel and the
/// initrd are files of its `/boot`. The SHA-256 of `to` goes to the same name with `.sha256` added, in
/// the form that `sha256sum --check` reads, and is returned in lower-case hex, as
/// [`prebuilt`](super::prebuilt()) takes it. Existing files are replaced when everything is written.
///
/// # Errors
/// [`Kind::Assets`] when a file cannot be read or written; [`Kind::Interrupted`] on Ctrl-C.
pub(crate) fn export(
    image: &NodeImage,
    to: &Path,
    gzip: bool,
    progress: &dyn Progress,
) -> Result<String> {
    let fail = || format!("cannot write {}", to.display());
    let Some(name) = to.file_name() else {
        return Err(Error::usage(format!(
            "{} is not the name of a file",
            to.display()
        )));
    };
    let step = progress.step("Export the node image");
    let fail_reading = || format!("cannot read {}", image.disk.display());
    let disk = File::open(&image.disk).context(Kind::Assets, fail_reading)?;
    let total = disk.metadata().context(Kind::Assets, fail_reading)?.len();
    let report = |done| {
        step.bytes(done, Some(total));
        Ok(())
    };
    let mut out = Digesting::new(WholeFile::create(to, 0o644).context(Kind::Assets, fail)?);
    if gzip {
        let mut encoder = GzEncoder::new(out, Compression::default());
        copy(disk, &mut encoder, fail_reading, fail, report)?;
        out = encoder.finish().context(Kind::Assets, fail)?;
    } else {
        copy(disk, &mut out, fail_reading, fail, report)?;
    }
    let (file, size, sha256) = out.finish();
    file.finish().context(Kind::Assets, fail)?;

    let mut checksum_file = to.as_os_str().to_owned();
    checksum_file.push(".sha256");
    let line = format!("{sha256}  {}\n", name.to_string_lossy());
    fsutil::write_atomic(Path::new(&checksum_file), line.as_bytes(), 0o644)?;
    step.done(format!("{}, {}", to.display(), human_bytes(size)));
    Ok(sha256)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

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
            let sha256 = export(&image, &to, gzip, &Silent).unwrap();
            assert_eq!(sha256, crate::assets::record::sha256_of_file(&to).unwrap());
            assert_eq!(
                fs::read_to_string(dir.path().join(format!("{name}.sha256"))).unwrap(),
                format!("{sha256}  {name}\n")
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
