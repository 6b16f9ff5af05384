//! One HTTP request: what is sent, how long it may take, and what its failure means.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Timeout};

use super::failure::{Failure, failed};
use crate::error::{Error, Result};
use crate::interrupt;

/// Read once: every download has a client of its own.
static ROOTS: OnceLock<RootCerts> = OnceLock::new();

/// The patience of a download.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A connection that gives no byte for this long counts as cut.
    pub stall: Duration,
    /// Finding the host and connecting to it may take this long, each.
    pub connect: Duration,
    /// The number of tries in a row that may bring no new byte.
    pub retries: u32,
    /// The wait before the first of them; it doubles with each, up to 32 times.
    pub backoff: Duration,
    /// Set to end the download early, such as when another one has failed.
    pub stop: Arc<AtomicBool>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            stall: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            retries: 5,
            backoff: Duration::from_millis(500),
            stop: Arc::default(),
        }
    }
}

impl Limits {
    /// Fails when the user or another thread asks to stop.
    pub(super) fn check_stop(&self) -> Result<()> {
        interrupt::check()?;
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::assets("the download was stopped"));
        }
        Ok(())
    }
}

/// The reason for which a request failed.
pub(super) enum Refusal {
    /// Another try may succeed.
    Transient(Failure, Option<ureq::Error>),
    /// It will not.
    Final(Failure, Option<ureq::Error>),
}

impl Refusal {
    pub(super) fn into_error(self, url: &str) -> Error {
        let (Refusal::Transient(failure, cause) | Refusal::Final(failure, cause)) = self;
        failed(url, failure, cause.map(Into::into))
    }
}

/// The HTTP client of one download. It closes its connection when the user asks to stop, because
/// a read can otherwise sit there for as long as the server is silent.
pub(super) struct Client {
    agent: Agent,
    /// Dropping it ends the thread that watches for Ctrl-C.
    _watch: mpsc::Sender<()>,
}

impl Client {
    pub(super) fn new(url: &str, limits: &Limits) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect must not lead from a protected connection to an open one.
            .https_only(url.starts_with("https:"))
            // Pieces are counted in the file's own bytes.
            .accept_encoding("identity")
            .user_agent(concat!("kubby/", env!("CARGO_PKG_VERSION")))
            .tls_config(
                TlsConfig::builder()
                    .root_certs(ROOTS.get_or_init(roots).clone())
                    .build(),
            )
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_per_read(Some(limits.stall))
            .timeout_per_write(Some(limits.stall))
            .build()
            .new_agent();
        let (watch, dropped) = mpsc::channel();
        let (watched, stop) = (agent.clone(), Arc::clone(&limits.stop));
        std::thread::spawn(move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) =
                dropped.recv_timeout(Duration::from_millis(100))
            {
                if interrupt::requested() || stop.load(Ordering::Relaxed) {
                    watched.shutdown();
                    return;
                }
            }
        });
        Client {
            agent,
            _watch: watch,
        }
    }

    /// Asks for `url`, from byte `from` on where that is not 0. Only 200 and 206 come back as
    /// responses.
    pub(super) fn get(
        &self,
        url: &str,
        accept: &str,
        from: u64,
    ) -> Result<ureq::http::Response<Body>, Refusal> {
        let mut request = self.agent.get(url).header("Accept", accept);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(classify)?;
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            404 | 410 => Err(Refusal::Final(Failure::NotFound, None)),
            // The file has become shorter than what is here already.
            416 => Err(Refusal::Final(Failure::Changed, None)),
            code @ (408 | 425 | 429 | 500 | 502 | 503 | 504) => {
                Err(Refusal::Transient(Failure::Status(code), None))
            }
            code => Err(Refusal::Final(Failure::Status(code), None)),
        }
    }
}

/// Returns the reason for which a request got no answer.
fn classify(error: ureq::Error) -> Refusal {
    use ureq::Error as E;
    match &error {
        E::HostNotFound
        | E::ConnectionFailed
        | E::ConnectProxyFailed(_)
        | E::Timeout(Timeout::Resolve | Timeout::Connect) => {
            Refusal::Final(Failure::Unreachable, Some(error))
        }
        E::Io(e) if no_connection(e) => Refusal::Final(Failure::Unreachable, Some(error)),
        E::Timeout(_) => Refusal::Transient(Failure::Cut, Some(error)),
        // rustls reports an untrusted certificate as invalid data.
        E::Io(e) if e.kind() != io::ErrorKind::InvalidData => {
            Refusal::Transient(Failure::Cut, Some(error))
        }
        _ => Refusal::Final(Failure::Protocol, Some(error)),
    }
}

fn no_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionRefused
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::AddrNotAvailable
    )
    // The standard library has no kind for a name that does not resolve, only this text.
    || error.to_string().starts_with("failed to lookup address information")
}

/// Returns the certificates that the host trusts, wherever its distribution keeps them, so that a
/// company's proxy works as it does for curl; the ones built in where the host has none.
fn roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    let found = found.iter().map(|c| Certificate::from_der(c).to_owned());
    RootCerts::from(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_connection_is_unreachable() {
        let io = |kind: io::ErrorKind| ureq::Error::Io(kind.into());
        let lookup =
            io::Error::other("failed to lookup address information: Name or service not known");
        for error in [
            ureq::Error::HostNotFound,
            ureq::Error::Timeout(Timeout::Connect),
            ureq::Error::Timeout(Timeout::Resolve),
            ureq::Error::ConnectProxyFailed("403".into()),
            ureq::Error::Io(lookup),
            io(io::ErrorKind::ConnectionRefused),
            io(io::ErrorKind::NetworkUnreachable),
        ] {
            let text = error.to_string();
            let got = classify(error);
            assert!(
                matches!(got, Refusal::Final(Failure::Unreachable, _)),
                "{text}"
            );
        }
        for error in [
            ureq::Error::Timeout(Timeout::PerRead),
            io(io::ErrorKind::ConnectionReset),
            io(io::ErrorKind::UnexpectedEof),
        ] {
            let text = error.to_string();
            assert!(
                matches!(classify(error), Refusal::Transient(Failure::Cut, _)),
                "{text}"
            );
        }
        for error in [
            io(io::ErrorKind::InvalidData),
            ureq::Error::TooManyRedirects,
        ] {
            let text = error.to_string();
            assert!(
                matches!(classify(error), Refusal::Final(Failure::Protocol, _)),
                "{text}"
            );
        }
    }
}
