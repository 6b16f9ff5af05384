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
mod errors;
mod files;
mod image;
mod oci;

use std::io::Read;

use crate::error::Result;
use crate::interrupt;
use errors::Errors;

pub(crate) use image::Image;
pub use image::Request;

/// The result of passing an archive on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The images that the index names.
    pub images: Vec<Image>,
    /// The number of bytes that were left out since they are [`Request::present`].
    pub spared: u64,
}

/// Reads an archive to its end and passes it on through `send`, the index last and only if all
/// that it names is in the archive, whole, and for the node's platform.
///
/// # Errors
/// [`crate::error::Kind::Assets`] for a file that is not an archive, is cut or damaged, or holds
/// images for other platforms; [`crate::error::Kind::Usage`] for images without names while none
/// was given; [`crate::error::Kind::Interrupted`] on Ctrl-C; and the errors of `send`.
pub fn pass_on(
    source: &mut dyn Read,
    request: &Request,
    send: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Passed> {
    let errors = Errors(&request.label);
    let mut reader = decode::open(source).map_err(|e| errors.unreadable(&e))?;
    let mut entries = entries::Entries::new(&mut reader, errors);
    let mut files = files::Files::new(errors, &request.present);
    while let Some(entry) = entries.next()? {
        interrupt::check()?;
        files.take(&entry, &mut entries, send)?;
    }
    let (images, index) = conclude::conclude(&files, request)?;
    for (name, content) in index {
        send(&entries::header(name, content.len() as u64))?;
        send(content.as_bytes())?;
        send(entries::padding(content.len() as u64))?;
    }
    send(&[0; 1024])?;
    Ok(Passed {
        images,
        spared: files.spared,
    })
}
