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
    let command = format!("images export --platform linux/{arch} - {quoted}");
    let mut process = store.stream(&command)?;
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    loop {
        interrupt::check()?;
        let n = process.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        sink.write_all(&buffer[..n])
            .context(Kind::Internal, || "cannot write the archive".into())?;
        done += n as u64;
        report(done);
    }
    let output = store.finish(process)?;
    if output.success() && done > 0 {
        return Ok(done);
    }
    let (names, flag) = (names.join(", "), &store.flag);
    let message = format!("containerd in the node cannot export {names}");
    Err(Error::assets(message)
        .with_detail("it says", node::errors_of(&output))
        .with_hint(format!(
            "parts of it may be missing: kubby image pull{flag} or kubby image load gets it again"
        )))
}
