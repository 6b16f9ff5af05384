//! Writes images of the node to an archive, which docker, podman and `image load` read.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::node::{self, ImageStore};
use crate::assets::components::arch;
use crate::cluster::node::Node;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::{self, Output};
use crate::interrupt;
use crate::progress::Progress;
use crate::remote::quote;
use crate::units::human_bytes;

/// The number of bytes that are moved at once.
const CHUNK: usize = 64 * 1024;
/// Writes an archive to standard output, by `ctr` itself: through containerd's transfer service, `ctr` can end
/// with success before it has written the archive's last kilobytes (containerd 2.4.2, 2 of 60 times).
const EXPORT: &str = "images export --local";

/// Saves the images with these names to a file, which appears whole or not at all and is compressed
/// by its ending `.gz`, `.tgz`, `.zst`, or for `-` to standard output. Returns the archive's size
/// before compression, in bytes.
///
/// # Errors
/// [`Kind::Usage`] when the destination cannot be written, [`Kind::State`] for names that the
/// node does not have, [`Kind::Assets`] when containerd cannot export them.
pub(crate) fn save(
    node: &Node,
    texts: &[String],
    to: &Path,
    progress: &dyn Progress,
) -> Result<u64> {
    let hint = "write a file (-f FILE) or pipe it: kubby image save NAME -f - | docker load";
    fsutil::check_destination(to, "an archive", "image.tar", hint)?;
    let mut store = ImageStore::connect(node)?;
    let images = store.images()?;
    let mut names: Vec<String> = Vec::new();
    for text in texts {
        let meant = node::find(&images, text, &store.flag)?;
        let name = meant.name.or_else(|| meant.image.names.first().cloned());
        names.push(name.ok_or_else(|| {
            Error::state(format!("the image {text} has no name to be saved under"))
                .with_hint("give it one: kubby image tag ID NAME:TAG")
        })?);
    }
    names.sort();
    names.dedup();
    let step = progress.step(&format!("Save {}", names.join(", ")));
    let mut output = Output::open(to, 0o644)?;
    let mut copy =
        |sink: &mut dyn Write| export(&mut store, &names, sink, &mut |n| step.bytes(n, None));
    let fail = || format!("cannot write {}", to.display());
    let ending = to.extension().unwrap_or_default().to_string_lossy();
    let size = match ending.as_ref() {
        "gz" | "tgz" => {
            let mut gzip = GzEncoder::new(&mut output, Compression::fast());
            let size = copy(&mut gzip)?;
            gzip.finish().context(Kind::Internal, fail)?;
            size
        }
        "zst" | "tzst" => {
            let mut zstd = zstd::Encoder::new(&mut output, 0).context(Kind::Internal, fail)?;
            let size = copy(&mut zstd)?;
            zstd.finish().context(Kind::Internal, fail)?;
            size
        }
        _ => copy(&mut output)?,
    };
    output.finish()?;
    step.done(human_bytes(size));
    Ok(size)
}

fn export(
    store: &mut ImageStore,
    names: &[String],
    sink: &mut dyn Write,
    report: &mut dyn FnMut(u64),
) -> Result<u64> {
    let quoted: Vec<String> = names.iter().map(|n| quote(n)).collect();
    let (arch, quoted) = (arch()?, quoted.join(" "));
    let command = format!("{EXPORT} --platform linux/{arch} - {quoted}");
    let mut process = store.stream(&command)?;
    let mut buffer = vec![0; CHUNK];
    let mut end = ArchiveEnd::default();
    loop {
        interrupt::check()?;
        let n = process.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        sink.write_all(&buffer[..n])
            .context(Kind::Internal, || "cannot write the archive".into())?;
        end.pass(&buffer[..n]);
        report(end.size);
    }
    let output = store.finish(process)?;
    let (names, flag) = (names.join(", "), &store.flag);
    if output.success() && end.size > 0 {
        return match end.is_whole() {
            true => Ok(end.size),
            false => Err(Error::assets(format!(
                "containerd in the node wrote an archive of {names} that is cut off"
            ))
            .with_hint("save it again")
            .with_hint(format!(
                "look at containerd: kubby ssh{flag} -- journalctl -u containerd"
            ))),
        };
    }
    let message = format!("containerd in the node cannot export {names}");
    Err(Error::assets(message)
        .with_detail("it says", node::errors_of(&output))
        .with_hint(format!(
            "parts of it may be missing: kubby image pull{flag} or kubby image load gets it again"
        )))
}

/// The end of a tar archive that passes by.
#[derive(Default)]
struct ArchiveEnd {
    size: u64,
    last: Vec<u8>,
}

impl ArchiveEnd {
    const BLOCK: usize = 512;

    fn pass(&mut self, data: &[u8]) {
        self.size += data.len() as u64;
        let last = &data[data.len().saturating_sub(2 * Self::BLOCK)..];
        let kept = self.last.len().min(2 * Self::BLOCK - last.len());
        self.last.drain(..self.last.len() - kept);
        self.last.extend_from_slice(last);
    }

    /// Returns whether the archive consists of whole blocks and ends with two of zeros.
    fn is_whole(&self) -> bool {
        self.size.is_multiple_of(Self::BLOCK as u64)
            && self.last.len() == 2 * Self::BLOCK
            && self.last.iter().all(|byte| *byte == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_without_its_end_is_noticed() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3000);
        builder
            .append_data(&mut header, "layer", &[7; 3000][..])
            .unwrap();
        let archive = builder.into_inner().unwrap();
        let is_whole = |data: &[u8], piece: usize| {
            let mut end = ArchiveEnd::default();
            data.chunks(piece).for_each(|chunk| end.pass(chunk));
            end.is_whole()
        };
        for piece in [1, 7, 512, 1000, 1024, 1025, 100_000] {
            assert!(is_whole(&archive, piece), "{piece}");
            for lost in [1, 512, 1024, 1500, 3000, archive.len()] {
                let cut = &archive[..archive.len() - lost];
                assert!(!is_whole(cut, piece), "{piece} {lost}");
            }
        }
    }
}
