//! A reader over HTTP that reconnects and continues where it was cut.

use std::io::{self, Read};
use std::sync::Arc;

use ureq::http::HeaderMap;

use super::failure::{Failure, failed};
use super::http::{Client, Limits, Refusal};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::progress::StepSink;

/// The properties that distinguish files under the same URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Identity {
    etag: Option<String>,
    modified: Option<String>,
    total: Option<u64>,
}

impl Identity {
    fn of(headers: &HeaderMap, total: Option<u64>) -> Self {
        let text = |name| {
            headers
                .get(name)
                .and_then(|v| v.to_str().ok())
                .map(str::to_owned)
        };
        Identity {
            // A weak tag stays the same for files that differ in bytes.
            etag: text("etag").filter(|t| !t.starts_with("W/")),
            modified: text("last-modified"),
            total,
        }
    }

    /// Returns whether the rest of the file can be distinguished from the rest of another one.
    fn can_resume(&self) -> bool {
        self.total.is_some() && (self.etag.is_some() || self.modified.is_some())
    }

    /// Returns whether what both sides state is the same; what one side does not state proves
    /// nothing.
    fn agrees(&self, other: &Identity) -> bool {
        fn same<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        let stated = (self.etag.is_some() && other.etag.is_some())
            || (self.modified.is_some() && other.modified.is_some());
        stated
            && same(&self.etag, &other.etag)
            && same(&self.modified, &other.modified)
            && self.total == other.total
    }
}

/// A download in progress. A cut or silent connection is replaced by a new one that continues where
/// the old one ended, provided that it is provably the same file.
pub struct ResumingReader {
    client: Client,
    url: String,
    accept: &'static str,
    limits: Limits,
    sink: Arc<dyn StepSink>,
    body: Option<Box<dyn Read + Send>>,
    identity: Identity,
    offset: u64,
    /// The bytes still to drop of a body that begins with what is here already.
    skip: u64,
    /// Tries in a row that brought no new byte.
    fruitless: u32,
    ended: bool,
}

impl ResumingReader {
    /// Opens a download of one of the media types in `accept`.
    ///
    /// # Errors
    /// [`Kind::Assets`](crate::error::Kind::Assets) with a [`Failure`];
    /// [`Kind::Interrupted`](crate::error::Kind::Interrupted) on Ctrl-C.
    pub fn open(
        url: &str,
        accept: &'static str,
        sink: Arc<dyn StepSink>,
        limits: Limits,
    ) -> Result<Self> {
        limits.check_stop()?;
        let mut reader = ResumingReader {
            client: Client::new(url, &limits),
            url: url.to_owned(),
            accept,
            limits,
            sink,
            body: None,
            identity: Identity::default(),
            offset: 0,
            skip: 0,
            fruitless: 0,
            ended: false,
        };
        reader.connect()?;
        reader.sink.bytes(0, reader.identity.total);
        Ok(reader)
    }

    /// Connects, and begins to read after the bytes that are here already.
    fn connect(&mut self) -> Result<()> {
        loop {
            match self.client.get(&self.url, self.accept, self.offset) {
                Ok(response) => return self.continue_with(response),
                Err(refusal) => self.wait_or_give_up(refusal)?,
            }
        }
    }

    /// Returns the size of the whole file where the server says it.
    pub fn total(&self) -> Option<u64> {
        self.identity.total
    }

    /// Waits before the next try, unless this was the last one.
    fn wait_or_give_up(&mut self, refusal: Refusal) -> Result<()> {
        self.limits.check_stop()?;
        let transient = match refusal {
            // Once data came, a host that is gone for a moment is a cut connection.
            Refusal::Final(Failure::Unreachable, cause) if self.offset > 0 => {
                Refusal::Transient(Failure::Cut, cause)
            }
            other => other,
        };
        if matches!(transient, Refusal::Final(..)) || self.fruitless >= self.limits.retries {
            return Err(transient.into_error(&self.url));
        }
        let factor = 1 << self.fruitless.min(5);
        self.fruitless += 1;
        self.sink.detail("the connection failed; trying again");
        interrupt::sleep(self.limits.backoff * factor)
    }

    /// Waits after a connection broke, and continues with another one where it ended.
    fn resume(&mut self, why: Refusal) -> Result<()> {
        self.body = None;
        // A closed connection can be the answer to Ctrl-C, see `Client`.
        self.limits.check_stop()?;
        if self.offset > 0 && !self.identity.can_resume() {
            let cause = "the server gives no size with an ETag or a date, so that the rest cannot be matched with the beginning";
            return Err(failed(&self.url, Failure::Cut, Some(cause.into())));
        }
        self.wait_or_give_up(why)?;
        self.connect()
    }

    fn continue_with(&mut self, response: ureq::http::Response<ureq::Body>) -> Result<()> {
        let headers = response.headers();
        let changed = || failed(&self.url, Failure::Changed, None);
        let partial = response.status().as_u16() == 206;
        let total = if partial {
            let (start, total) = content_range(headers).ok_or_else(changed)?;
            if start != self.offset {
                return Err(changed());
            }
            total
        } else {
            number(headers, "content-length")
        };
        let identity = Identity::of(headers, total);
        if self.offset == 0 {
            self.identity = identity;
        } else if !self.identity.agrees(&identity) {
            return Err(changed());
        }
        // Some servers send the whole file again.
        self.skip = if partial { 0 } else { self.offset };
        self.body = Some(Box::new(response.into_body().into_reader()));
        Ok(())
    }

    fn read_on(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            self.limits.check_stop()?;
            let why = match self.body.as_mut().map(|body| body.read(buffer)) {
                Some(Ok(0)) if self.identity.total.is_none_or(|total| self.offset >= total) => {
                    self.ended = true;
                    return Ok(0);
                }
                Some(Ok(n)) if n > 0 => {
                    let dropped = n.min(usize::try_from(self.skip).unwrap_or(n));
                    self.skip -= dropped as u64;
                    if dropped == n {
                        continue;
                    }
                    buffer.copy_within(dropped..n, 0);
                    self.offset += (n - dropped) as u64;
                    self.fruitless = 0;
                    self.sink.bytes(self.offset, self.identity.total);
                    return Ok(n - dropped);
                }
                Some(Err(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
                Some(Err(e)) => Refusal::Transient(Failure::Cut, Some(e.into())),
                Some(Ok(_)) | None => Refusal::Transient(Failure::Cut, None),
            };
            self.resume(why)?;
        }
    }
}

impl Read for ResumingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.ended {
            return Ok(0);
        }
        self.read_on(buffer).map_err(|e: Error| io::Error::other(e))
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Returns the start and the whole size of `Content-Range: bytes START-END/TOTAL`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers
        .get("content-range")?
        .to_str()
        .ok()?
        .trim()
        .strip_prefix("bytes")?;
    let (range, total) = text.trim_start().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    Some((start.trim().parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(etag: &str, modified: &str, total: u64) -> Identity {
        let some = |t: &str| (!t.is_empty()).then(|| t.to_owned());
        Identity {
            etag: some(etag),
            modified: some(modified),
            total: Some(total),
        }
    }

    #[test]
    fn pieces_are_joined_only_with_proof() {
        let first = identity("\"a\"", "Mon", 10);
        for (second, agrees) in [
            (identity("\"a\"", "Mon", 10), true),
            (identity("\"a\"", "", 10), true),
            (identity("", "Mon", 10), true),
            (identity("\"b\"", "Mon", 10), false),
            (identity("\"a\"", "Tue", 10), false),
            (identity("\"a\"", "Mon", 11), false),
            (identity("", "", 10), false),
        ] {
            assert_eq!(first.agrees(&second), agrees, "{second:?}");
        }
        assert!(!identity("", "", 10).can_resume());
        assert!(
            !Identity {
                total: None,
                ..first
            }
            .can_resume()
        );
    }

    #[test]
    fn content_ranges_parse() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-range", text.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(of("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(of("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "",
            "bytes */10",
            "items 5-9/10",
            "bytes 5-9",
            "bytes x-9/10",
            "bytes 5-9/x",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
