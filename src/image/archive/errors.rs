//! The errors about an archive, each with its name and a hint.

use std::fmt::Display;

use crate::error::{Error, Kind};
use crate::interrupt;

/// Makes errors that begin with the archive's name in messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errors<'a>(pub(super) &'a str);

impl Errors<'_> {
    /// The archive is not what it should be.
    pub(super) fn damaged(self, why: impl Display) -> Error {
        Error::assets(format!("{} is damaged: {why}", self.0))
            .with_hint("write it again: docker image save NAME -o FILE")
    }

    /// The archive ends too early.
    pub(super) fn cut(self, why: impl Display) -> Error {
        Error::assets(format!("{} is cut off: {why}", self.0))
            .with_hint("copy it again, or write it again: docker image save NAME -o FILE")
    }

    /// The archive refers to something that it does not hold.
    pub(super) fn missing(self, what: impl Display) -> Error {
        self.cut(format!("{what} is missing in it"))
    }

    /// The archive cannot be read, for the reason that the reader gives.
    pub(super) fn unreadable(self, e: &std::io::Error) -> Error {
        if interrupt::requested() {
            return Error::new(Kind::Interrupted, "interrupted");
        }
        match e.kind() {
            std::io::ErrorKind::UnexpectedEof => self.cut("its compressed data ends too early"),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => self.damaged(e),
            _ => Error::assets(format!("cannot read {}", self.0)).with_source(e.to_string()),
        }
    }

    /// It is something else than an archive of images.
    pub(super) fn not_an_archive(self, why: impl Display) -> Error {
        let name = self.0;
        Error::assets(format!(
            "{name} is not an archive of container images: {why}"
        ))
        .with_hint(
            "such archives come from `docker image save`, `podman image save` or \
             `docker buildx build --output type=oci,dest=FILE`",
        )
    }

    /// A manifest does not fit its image's configuration.
    pub(super) fn wrong_layers(self, manifest: &str, lists: usize, has: usize) -> Error {
        self.damaged(format!(
            "{manifest} lists {lists} layers of an image of {has}"
        ))
    }
}
