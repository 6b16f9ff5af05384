//! A node image that was made elsewhere: verified, unpacked, and its kernel taken out of it.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::build::check_room;
use super::kernel::take_kernel;
use super::store::Store;
use super::{NodeImage, manifest, qcow2};
use crate::assets::download::{self, ANYTHING, Limits, ResumingReader, VerifyingReader, copy};
use crate::assets::record::sha256_of_file;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::Progress;
use crate::units::human_bytes;

/// The first bytes of a gzip file. The content counts, not the name.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// No node image is larger unpacked; what is tries to fill the disk.
const LARGEST: u64 = 32 << 30;

/// Returns the node image in a file or behind an `http://` or `https://` URL: a qcow2 disk, also
/// gzip-compressed, with its kernel and initrd in `/boot`, as [`export`](super::export()) writes it.
/// `sha256` is that of the file as given; without it a URL is refused, and a file is taken as it
/// is. What was taken once is in the cache and not read again.
///
/// # Errors
/// [`Kind::Usage`] when `sha256` is missing or malformed; [`Kind::Assets`] when the image cannot
/// be had, is not what `sha256` says, or is not a self-contained disk image with a kernel in it;
/// [`Kind::Preflight`] without the programs or the room; [`Kind::Interrupted`].
pub(crate) fn prebuilt(
    source: &str,
    sha256: Option<&str>,
    cache: &Path,
    progress: &dyn Progress,
) -> Result<NodeImage> {
    let url = source.starts_with("http://") || source.starts_with("https://");
    let digest = match sha256 {
        Some(text) if download::is_sha256(text) => text.to_ascii_lowercase(),
        Some(text) => {
            return Err(Error::usage(format!(
                "`{text}` is not a SHA-256: it has 64 hexadecimal digits"
            )));
        }
        None if url => {
            return Err(Error::usage(format!(
                "an image from a URL is only taken with its digest: {source}"
            ))
            .with_hint("add --image-sha256 HEX, which is published beside the image"));
        }
        None => sha256_of_file(Path::new(source))?,
    };
    let store = Store::open(cache)?;
    let inputs = format!("prebuilt-{}-{}", manifest::FORMAT, &digest[..32]);
    if let Some(image) = store.find(&inputs, progress)? {
        return Ok(image);
    }
    store.provide(&inputs, false, progress, |dir| {
        let step = progress.step(if url {
            "Download the node image"
        } else {
            "Take the node image"
        });
        let disk = dir.join(manifest::DISK);
        let (reader, size): (Box<dyn Read>, _) = if url {
            let limits = Limits::default();
            let reader = ResumingReader::open(source, ANYTHING, step.sink(), limits)?;
            let size = reader.total();
            (Box::new(reader), size)
        } else {
            let file =
                File::open(source).context(Kind::Assets, || format!("cannot read {source}"))?;
            let size = file.metadata().ok().map(|m| m.len());
            (Box::new(file), size)
        };
        // A compressed image grows to about three times its size, and its kernel is taken out of a raw
        // copy.
        check_room(dir, size.unwrap_or(400 << 20).saturating_mul(6))?;
        unpack(reader, source, &digest, &disk)?;
        qcow2::virtual_size(&disk).map_err(|e| name_source(e, source, &disk))?;
        step.detail("taking the kernel out of the image");
        take_kernel(dir, &step.sink())?;
        let size = std::fs::metadata(&disk).map_or(0, |m| m.len());
        step.done(human_bytes(size));
        Ok(())
    })
}

/// Names what the user gave in an error about its unpacked copy.
fn name_source(error: Error, source: &str, copy: &Path) -> Error {
    let message = error.message().replace(&copy.display().to_string(), source);
    Error::new(error.kind(), message)
        .with_hint("`kubby node-image build --export FILE` writes files that can be given here")
}

/// Copies `reader` to `disk`, verified and decompressed on the way.
fn unpack(reader: impl Read, source: &str, digest: &str, disk: &Path) -> Result<()> {
    let read_failed = || format!("cannot read {source}");
    let mut reader = VerifyingReader::new(reader, digest, source);
    let mut magic = Vec::new();
    (&mut reader)
        .take(GZIP.len() as u64)
        .read_to_end(&mut magic)
        .map_err(|e| download::from_io(e, read_failed))?;
    let compressed = magic == GZIP;
    let mut whole = Cursor::new(magic).chain(&mut reader);
    let result = if compressed {
        let whole = BufReader::with_capacity(1 << 20, whole);
        write(MultiGzDecoder::new(whole), source, disk)
    } else {
        write(&mut whole, source, disk)
    };
    match result {
        // A changed file also decompresses badly: that it is changed is what to say first.
        Err(e) if e.kind() == Kind::Assets => reader.finish().and(Err(e)),
        Err(e) => Err(e),
        Ok(()) => reader.finish(),
    }
}

/// Writes what `from` yields to the file `to`, unless it is larger than any node image.
fn write(from: impl Read, source: &str, to: &Path) -> Result<()> {
    let read_failed = || format!("cannot unpack {source}");
    let write_failed = || format!("cannot write {}", to.display());
    let file = File::create(to).context(Kind::Assets, write_failed)?;
    copy(from, file, read_failed, write_failed, |written| {
        if written <= LARGEST {
            return Ok(());
        }
        let most = human_bytes(LARGEST);
        let message = format!("{source} is larger than any node image: over {most}");
        Err(Error::assets(message))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;
    use std::process::Command;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::progress::Silent;

    fn run(program: &str, args: &[&str], dir: &Path) {
        let out = Command::new(crate::tool::find(program).unwrap())
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }

    /// Returns a disk of 8 MiB with these files in /boot, as qcow2.
    fn disk(dir: &Path, boot: &[(&str, &str)]) -> PathBuf {
        let root = dir.join("root");
        std::fs::create_dir_all(root.join("boot")).unwrap();
        for (name, content) in boot {
            std::fs::write(root.join("boot").join(name), content).unwrap();
        }
        run(
            "mke2fs",
            &["-q", "-F", "-t", "ext4", "-d", "root", "raw", "8M"],
            dir,
        );
        run(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "qcow2", "raw", "node.qcow2"],
            dir,
        );
        dir.join("node.qcow2")
    }

    fn good(dir: &Path) -> PathBuf {
        disk(
            dir,
            &[
                ("vmlinuz-6.12.9+deb13", "old"),
                ("initrd.img-6.12.9+deb13", "old"),
                ("vmlinuz-6.12.11+deb13", "kernel"),
                ("initrd.img-6.12.11+deb13", "initrd"),
                ("vmlinuz-6.13.0", "without initrd"),
            ],
        )
    }

    fn gzip(file: &Path) -> PathBuf {
        // No `.gz`: the content counts.
        let to = file.with_extension("packed");
        let mut encoder = GzEncoder::new(File::create(&to).unwrap(), Compression::fast());
        encoder.write_all(&std::fs::read(file).unwrap()).unwrap();
        encoder.finish().unwrap();
        to
    }

    fn take(source: &Path, sha256: Option<&str>, cache: &Path) -> Result<NodeImage> {
        prebuilt(source.to_str().unwrap(), sha256, cache, &Silent)
    }

    #[test]
    fn a_disk_is_taken_plain_and_compressed_and_then_found() {
        let dir = tempfile::tempdir().unwrap();
        let plain = good(dir.path());
        for source in [gzip(&plain), plain.clone()] {
            let cache = dir.path().join("a cache with spaces");
            let digest = sha256_of_file(&source).unwrap();
            let image = take(&source, Some(&digest.to_uppercase()), &cache).unwrap();
            assert_eq!(
                std::fs::read(&image.disk).unwrap(),
                std::fs::read(&plain).unwrap()
            );
            assert_eq!(std::fs::read(&image.kernel).unwrap(), b"kernel");
            assert_eq!(std::fs::read(&image.initrd).unwrap(), b"initrd");
            assert_eq!(image.virtual_size, 8 << 20);
            assert_eq!(take(&source, None, &cache).unwrap(), image);
            std::fs::remove_file(&source).unwrap();
            assert_eq!(take(&source, Some(&digest), &cache).unwrap(), image);
            std::fs::remove_dir_all(&cache).unwrap();
            if source == plain {
                break;
            }
        }
    }

    #[test]
    fn nothing_stays_of_what_is_not_what_it_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let plain = good(dir.path());
        let packed = gzip(&plain);
        let cut = dir.path().join("cut");
        let whole = std::fs::read(&packed).unwrap();
        std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
        let text = dir.path().join("text");
        std::fs::write(&text, "<html>not found</html>").unwrap();
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                "-b",
                "node.qcow2",
                "-F",
                "qcow2",
                "o",
            ],
            dir.path(),
        );
        let other = "0".repeat(64);
        let packed_digest = sha256_of_file(&packed).unwrap();
        let table = [
            (&plain, Some(other.as_str()), "SHA-256 expected 000"),
            (&packed, Some(other.as_str()), "SHA-256 expected 000"),
            (&cut, Some(packed_digest.as_str()), "SHA-256 expected"),
            (&cut, None, "cannot unpack"),
            (&text, None, "text is not a qcow2"),
            (&empty, None, "is not a qcow2"),
            (&dir.path().join("o"), None, "backing file"),
            (&dir.path().join("missing"), None, "cannot read"),
        ];
        for (source, sha256, why) in table {
            let cache = dir.path().join("cache");
            let e = take(source, sha256, &cache).unwrap_err();
            assert!(e.message().contains(why), "{why}: {e}");
            assert_eq!(e.kind(), Kind::Assets);
            let left: Vec<_> = std::fs::read_dir(cache.join("node-images"))
                .map(|dir| {
                    dir.map(|e| e.unwrap().file_name().into_string().unwrap())
                        .collect()
                })
                .unwrap_or_default();
            assert!(
                left.iter().all(|name: &String| name.ends_with(".lock")),
                "{why}: {left:?}"
            );
        }
    }

    #[test]
    fn a_disk_without_a_kernel_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let source = disk(
            dir.path(),
            &[("vmlinuz-1.0", "kernel"), ("initrd.img-1.1", "other")],
        );
        let e = take(&source, None, dir.path()).unwrap_err();
        assert!(e.message().contains("no kernel"), "{e}");
    }

    #[test]
    fn a_url_needs_a_digest_and_a_digest_its_form() {
        let cache = Path::new("/nonexistent");
        let e = prebuilt("https://localhost/node.qcow2", None, cache, &Silent).unwrap_err();
        assert_eq!(e.kind(), Kind::Usage);
        assert!(e.hints()[0].contains("--image-sha256"));
        for digest in ["", "abc", &"g".repeat(64), &"a".repeat(65)] {
            let e = prebuilt("node.qcow2", Some(digest), cache, &Silent).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage, "{digest}");
        }
    }
}
