//! The reasons of failed downloads, by which a caller can decide.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::error::Error;

/// The reason of a failed download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: unknown name, refused, no route, no answer, or a proxy that refuses.
    /// The one failure after which another way to get the thing makes sense.
    Unreachable,
    /// The server says that there is no such thing (404, 410).
    NotFound,
    /// The server refuses with another status, or keeps failing with it.
    Status(u16),
    /// The connection was cut or went silent, and trying again did not help.
    Cut,
    /// The thing changed on the server between two pieces of it.
    Changed,
    /// All bytes came, and they are not the expected ones.
    Checksum,
    /// The peer does not speak HTTP or TLS as it should, such as an untrusted certificate.
    Protocol,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable => f.write_str("the host cannot be reached"),
            Failure::NotFound => f.write_str("the server says that it does not exist"),
            Failure::Status(code) => write!(f, "the server answers with status {code}"),
            Failure::Cut => f.write_str("the connection was cut or went silent, again and again"),
            Failure::Changed => f.write_str("the file changed on the server meanwhile"),
            Failure::Checksum => f.write_str("the SHA-256 is not the expected one"),
            Failure::Protocol => f.write_str("the server cannot be talked to"),
        }
    }
}

/// Sits among the causes of an [`Error`], where [`failure`] finds it.
#[derive(Debug)]
struct Marked {
    failure: Failure,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => cause.fmt(f),
            None => self.failure.fmt(f),
        }
    }
}

impl StdError for Marked {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().and_then(|c| c.source())
    }
}

/// Returns the [`Failure`] behind an error, wherever among its causes; `None` for other errors.
pub fn failure(error: &Error) -> Option<Failure> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(marked) = cause.downcast_ref::<Marked>() {
            return Some(marked.failure);
        }
        // An io::Error's source() skips the error inside it, which can be the one that counts.
        next = match cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

/// Returns an error about a download of `url`.
pub(super) fn failed(
    url: &str,
    failure: Failure,
    cause: Option<Box<dyn StdError + Send + Sync>>,
) -> Error {
    let error = Error::assets(format!("cannot download {}: {failure}", printable(url)))
        .with_source(Marked { failure, cause });
    match failure {
        Failure::Unreachable => {
            error.with_hint("check the network, and HTTPS_PROXY where a proxy is in use")
        }
        Failure::Cut | Failure::Changed => error.with_hint("run the same command again"),
        _ => error,
    }
}

/// Returns an error about content that is not what it should be.
pub(super) fn mismatch(what: &str, expected: &str, actual: &str) -> Error {
    let what = printable(what);
    Error::assets(format!("{what} is not what it should be: SHA-256 expected {expected}, got {actual}"),
    )
    .with_source(Marked { failure: Failure::Checksum, cause: None })
    .with_hint(
        "nothing was kept of it; run the same command again, and if that does not help, do not trust its source",
    )
}

/// Returns the URL without what may be secret in it: user, password, query.
pub(crate) fn printable(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{host}{path}")
}

/// Turns a read error back into the [`Error`] that a reader of this module put into it; another
/// one becomes the cause of an [`Kind::Assets`](crate::error::Kind::Assets) error with the given message.
pub fn from_io(error: io::Error, message: impl FnOnce() -> String) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(other) => Error::assets(message()).with_source(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_is_found_under_other_errors() {
        let inner = failed("http://h/x", Failure::Unreachable, None);
        let io = io::Error::other(inner);
        let outer = Error::assets("no components").with_source(io);
        assert_eq!(failure(&outer), Some(Failure::Unreachable));
        assert_eq!(failure(&Error::assets("other")), None);
    }

    #[test]
    fn read_errors_give_back_what_was_put_in() {
        let e = from_io(io::Error::other(mismatch("x", "a", "b")), || unreachable!());
        assert_eq!(failure(&e), Some(Failure::Checksum));
        let e = from_io(io::Error::other("disk"), || "cannot read x".into());
        assert_eq!((e.message(), failure(&e)), ("cannot read x", None));
    }

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        for (url, shown) in [
            ("https://h/x", "https://h/x"),
            ("https://me:pass@h:8/x@y?token=1#f", "https://h:8/x@y"),
            ("https://me:pass@h", "https://h"),
            ("a file", "a file"),
        ] {
            assert_eq!(printable(url), shown);
        }
    }
}
