//! Archives of container images, as `docker save` and OCI tools write them: read as a stream,
//! checked, and passed on as a stream.
//!
//! Nothing of an archive is kept but its small JSON files, so its size does not matter. What is
//! passed on is an archive of its own making: the blobs as they come and, at the very end, an
//! index with the names. A container runtime gives names to what the index lists and nothing
//! else, so as long as the index is not sent an archive that turns out bad changes nothing.

mod conclude;
mod decode;
mod docker;
mod entries;
mod files;
mod oci;

use std::collections::HashSet;
use std::io::Read;

use serde::Serialize;

use super::reference::Reference;
use crate::error::{Error, Kind, Result};
use crate::interrupt;

/// How much is moved at once.
const CHUNK: usize = 128 * 1024;

/// What is known about an archive before it is read.
#[derive(Debug, Default)]
pub struct Request {
    /// How messages call the archive.
    pub label: String,
    /// The node's architecture as images name it, such as `amd64`.
    pub arch: String,
    /// Names to give instead of those in the archive; the archive must then hold one image.
    pub names: Vec<Reference>,
    /// A name to give to the one image of the archive besides those that it has.
    pub also: Option<Reference>,
    /// Digests of blobs that need not be passed on.
    pub present: HashSet<String>,
}

/// An image of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Its names, complete.
    pub names: Vec<Reference>,
    /// The digest of its configuration, by which container runtimes and the kubelet know it.
    pub id: String,
    /// Size of its layers as they are in the archive, in bytes.
    #[serde(rename = "sizeBytes")]
    pub size: u64,
}

/// What came of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The images that the index names.
    pub images: Vec<Image>,
    /// How many bytes were left out since they are [`Request::present`].
    pub spared: u64,
}

/// Reads an archive to its end and passes it on through `send`, the index last and only if all
/// that it names is there, whole, and for the node's platform.
///
/// # Errors
/// [`Kind::Assets`] for an archive that is none, is cut or damaged, or holds images for other
/// platforms; [`Kind::Usage`] for one whose images have no names while none was given;
/// [`Kind::Interrupted`] on Ctrl-C; and whatever `send` returns.
pub fn pass_on(
    source: &mut dyn Read,
    request: &Request,
    send: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Passed> {
    let say = Say(&request.label);
    let mut reader = decode::open(source).map_err(|e| say.unreadable(&e))?;
    let mut entries = entries::Entries::new(&mut reader, say);
    let mut files = files::Files::new(say, &request.present);
    while let Some(entry) = entries.next()? {
        interrupt::check()?;
        files.take(&entry, &mut entries, send)?;
    }
    let (images, index) = conclude::conclude(&files, request)?;
    for (name, content) in index {
        send(&entries::header(&name, content.len() as u64))?;
        send(&content)?;
        send(entries::padding(content.len() as u64))?;
    }
    send(&[0; 1024])?;
    Ok(Passed {
        images,
        spared: files.spared,
    })
}

/// Makes errors that begin with what the archive is called.
#[derive(Debug, Clone, Copy)]
struct Say<'a>(&'a str);

impl Say<'_> {
    /// The archive is not what it should be.
    fn damaged(self, why: impl std::fmt::Display) -> Error {
        Error::new(Kind::Assets, format!("{} is damaged: {why}", self.0))
            .with_hint("write it again: docker image save NAME -o FILE")
    }

    /// The archive ends too early.
    fn cut(self, why: impl std::fmt::Display) -> Error {
        Error::new(Kind::Assets, format!("{} is cut off: {why}", self.0))
            .with_hint("copy it again, or write it again: docker image save NAME -o FILE")
    }

    /// It cannot be read, for what the reader says.
    fn unreadable(self, e: &std::io::Error) -> Error {
        if interrupt::requested() {
            return Error::new(Kind::Interrupted, "interrupted");
        }
        match e.kind() {
            std::io::ErrorKind::UnexpectedEof => self.cut("its compressed data ends too early"),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => self.damaged(e),
            _ => Error::new(Kind::Assets, format!("cannot read {}", self.0))
                .with_source(e.to_string()),
        }
    }

    /// It is something else than an archive of images.
    fn no_archive(self, why: impl std::fmt::Display) -> Error {
        Error::new(
            Kind::Assets,
            format!("{} is not an archive of container images: {why}", self.0),
        )
        .with_hint(
            "such archives come from `docker image save`, `podman image save` or \
             `docker buildx build --output type=oci,dest=FILE`",
        )
    }
}
