//! Writes images of the node to an archive, which docker, podman and `image load` read.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::node::{self, ImageStore};
use crate::assets::components::arch;
use crate::cluster::node::Node;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::interrupt;
use crate::progress::Progress;
use crate::remote::quote;
use crate::units::human_bytes;

/// How much is moved at once.
const CHUNK: usize = 64 * 1024;

/// The destination of an archive.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'a> {
    /// A file, which appears whole or not at all; compressed by its ending `.gz`, `.tgz`, `.zst`.
    File(&'a Path),
    /// This process's standard output.
    Stdout,
}

/// Saves the images with these names. Returns the archive's size before compression, in bytes.
///
/// # Errors
/// [`Kind::Usage`] when the destination cannot be written, [`Kind::State`] for names that the
/// node does not have, [`Kind::Assets`] when containerd cannot export them.
pub fn save(
    node: &Node,
    texts: &[String],
    destination: Destination<'_>,
    progress: &dyn Progress,
) -> Result<u64> {
    check(destination)?;
    let mut store = ImageStore::connect(node)?;
    let images = store.images()?;
    let mut names: Vec<String> = Vec::new();
    for text in texts {
        let meant = node::find(&images, text, store.flag())?;
        let name = meant.name.or_else(|| meant.image.names.first().cloned());
        names.push(name.ok_or_else(|| {
            Error::state(format!("the image {text} has no name to be saved under"))
                .with_hint("give it one: kubby image tag ID NAME:TAG")
        })?);
    }
    names.sort();
    names.dedup();
    let step = progress.step(&format!("Save {}", names.join(", ")));
    let mut size = 0;
    let mut copy = |sink: &mut dyn Write| {
        size = export(&mut store, &names, sink, &mut |n| step.bytes(n, None))?;
        Ok(())
    };
    match destination {
        Destination::Stdout => {
            let mut out = io::stdout().lock();
            copy(&mut out)?;
            let fail = || "cannot write the archive to standard output".into();
            out.flush().context(Kind::Internal, fail)?;
        }
        Destination::File(path) => to_file(path, &mut copy)?,
    }
    step.done(human_bytes(size));
    Ok(size)
}

/// Refuses destinations that cannot work before the node is used.
fn check(destination: Destination<'_>) -> Result<()> {
    let path = match destination {
        Destination::Stdout if io::stdout().is_terminal() => {
            let message = "standard output is a terminal, which an archive would fill with garbage";
            return Err(Error::usage(message).with_hint(
                "write a file (-f FILE) or pipe it: kubby image save NAME -f - | docker load",
            ));
        }
        Destination::Stdout => return Ok(()),
        Destination::File(path) => path,
    };
    let folder = fsutil::folder_of(path);
    let (shown, parent) = (path.display(), folder.display());
    if path.is_dir() {
        return Err(
            Error::usage(format!("{shown} is a folder, not a file to write"))
                .with_hint(format!("kubby image save NAME -f {shown}/image.tar")),
        );
    }
    if !folder.is_dir() {
        return Err(Error::usage(format!("there is no folder {parent}"))
            .with_hint(format!("mkdir -p {parent}")));
    }
    Ok(())
}

/// Writes a temporary file beside the final one, then renames it.
fn to_file(path: &Path, copy: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()> {
    let fail = || format!("cannot write {}", path.display());
    let mut file = tempfile::Builder::new()
        .prefix(".kubby-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(fsutil::folder_of(path))
        .context(Kind::Usage, fail)?;
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    match ending.as_ref() {
        "gz" | "tgz" => {
            let mut gzip = GzEncoder::new(file.as_file_mut(), Compression::fast());
            copy(&mut gzip)?;
            gzip.finish().context(Kind::Internal, fail)?;
        }
        "zst" | "tzst" => {
            let mut zstd =
                zstd::Encoder::new(file.as_file_mut(), 0).context(Kind::Internal, fail)?;
            copy(&mut zstd)?;
            zstd.finish().context(Kind::Internal, fail)?;
        }
        _ => copy(file.as_file_mut())?,
    }
    file.as_file().sync_all().context(Kind::Internal, fail)?;
    file.persist(path).context(Kind::Internal, fail)?;
    Ok(())
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
    let (names, flag) = (names.join(", "), store.flag());
    let message = format!("containerd in the node cannot export {names}");
    Err(Error::assets(message)
        .with_detail("it says", node::errors_of(&output))
        .with_hint(format!(
            "parts of it may be missing: kubby image pull{flag} or kubby image load gets it again"
        )))
}
