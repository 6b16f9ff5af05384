//! From a TCP port to an authenticated session.
//!
//! QEMU's user network accepts a connection before anything listens in the guest, then resets it
//! or lets it hang. So the wait for the server's first bytes is short and repeated, while the key
//! exchange that follows may take its time: by then a server is there, and perhaps merely slow.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use ssh2::{ErrorCode, MethodType};

use super::Target;
use super::failure::Failure;
use super::keys::{fingerprint, public_key_bytes};
use super::link::{Link, SLICE, Watch, poll_once};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::interrupt;
use crate::trace;

/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(150);

/// The time that an attempt waits for the server's first bytes: the least and the most.
///
/// While the guest has no network yet, QEMU keeps what an attempt sends for a second and repeats
/// it only at growing intervals, so a new attempt gets through sooner than an old one. But a
/// server that is merely slow must get its time in the end.
const PATIENCE_LEAST: Duration = Duration::from_millis(750);
const PATIENCE_MOST: Duration = Duration::from_secs(5);

/// The divisor of the time that was spent, by which the wait grows.
const PATIENCE_GROWTH: u32 = 40;

/// The time for key exchange and authentication once the server has answered.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// The first bytes of the node's server. Others may send lines of text before it, without end.
const GREETING: &[u8] = b"SSH-";

/// Only keys of this kind are ever pinned.
const HOST_KEY_METHOD: &str = "ssh-ed25519";

/// The rest is chosen for an emulated node, which has to compute its half of it: measured against
/// one, AES-GCM moves a third more than ChaCha20-Poly1305, and P-256 is the quickest exchange.
const METHODS: [(MethodType, &str); 4] = [
    (MethodType::HostKey, HOST_KEY_METHOD),
    (MethodType::Kex, "ecdh-sha2-nistp256,curve25519-sha256"),
    (MethodType::CryptCs, CIPHERS),
    (MethodType::CryptSc, CIPHERS),
];
const CIPHERS: &str = "aes128-gcm@openssh.com,aes128-ctr,chacha20-poly1305@openssh.com";

/// Errors of libssh2 that say "the two sides share no method": another server, not a slow one.
const NO_COMMON_METHOD: [i32; 3] = [-5, -17, -33];

/// libssh2's codes for a refused login.
const LOGIN_REFUSED: [i32; 3] = [-18, -19, -16];

/// The reason why an attempt to connect failed.
enum Refusal {
    /// It may work in a moment; the text says what happened.
    ForNow(String),
    /// It will never work, or the user asked to stop.
    ForGood(Error),
}

/// The keys that every attempt needs, read and checked once.
struct Credentials<'a> {
    target: &'a Target,
    host_key: Vec<u8>,
    private_key: String,
}

impl<'a> Credentials<'a> {
    fn read(target: &'a Target) -> Result<Self> {
        let private_key = &target.private_key;
        let private_key = std::fs::read_to_string(private_key).context(Kind::State, || {
            format!("cannot read the SSH key {}", private_key.display())
        })?;
        Ok(Credentials {
            target,
            host_key: public_key_bytes(&target.host_key)?,
            private_key,
        })
    }
}

/// Connects with one attempt that takes at most `timeout`.
pub(super) fn once(target: &Target, timeout: Duration) -> Result<Link> {
    let credentials = Credentials::read(target)?;
    attempt(&credentials, &mut Watch::limit(timeout), timeout).map_err(|refusal| match refusal {
        Refusal::ForGood(e) => e,
        Refusal::ForNow(why) => Error::unreachable(format!(
            "cannot reach the node over SSH on {}",
            target.address()
        ))
        .with_source(why)
        .with_hint("see whether it runs: kubby status")
        .with_hint("start or repair it: kubby start"),
    })
}

/// Connects as soon as the node's SSH server answers, trying until `deadline`; `tick` is called
/// with the time since the begin.
pub(super) fn when_ready(
    target: &Target,
    deadline: Instant,
    tick: &mut dyn FnMut(Duration) -> Result<()>,
) -> Result<Link> {
    let credentials = Credentials::read(target)?;
    let begin = Instant::now();
    let mut tick = || tick(begin.elapsed());
    loop {
        let started = Instant::now();
        let mut watch = Watch::with_tick(Some(deadline), &mut tick);
        let why = match attempt(&credentials, &mut watch, patience(begin.elapsed())) {
            Ok(link) => return Ok(link),
            Err(Refusal::ForGood(e)) => return Err(e),
            Err(Refusal::ForNow(why)) => why,
        };
        let pause = RETRY.saturating_sub(started.elapsed());
        if Instant::now() + pause >= deadline {
            let message = format!(
                "the node did not answer over SSH on {} within {} s",
                target.address(),
                begin.elapsed().as_secs()
            );
            return Err(Error::unreachable(message)
                .with_source(why)
                .with_hint("see whether it runs: kubby status"));
        }
        tick()?;
        interrupt::sleep(pause)?;
    }
}

fn patience(elapsed: Duration) -> Duration {
    (PATIENCE_LEAST + elapsed / PATIENCE_GROWTH).min(PATIENCE_MOST)
}

fn attempt(
    credentials: &Credentials<'_>,
    watch: &mut Watch<'_>,
    patience: Duration,
) -> Result<Link, Refusal> {
    let socket = dial(credentials.target, watch, patience)?;
    await_banner(&socket, watch, patience)?;
    let _span = trace::span("SSH handshake and login");
    let mut watch = watch.within(HANDSHAKE);
    let mut link = Link::new(socket).map_err(|e| for_now("cannot begin an SSH session", e))?;
    handshake(&mut link, &mut watch, credentials.target)?;
    verify_host_key(&link, credentials).map_err(Refusal::ForGood)?;
    log_in(&mut link, &mut watch, credentials)?;
    Ok(link)
}

fn for_now(what: &str, failure: Failure) -> Refusal {
    match failure {
        Failure::Stopped(e) => Refusal::ForGood(e),
        other => Refusal::ForNow(format!("{what}: {other}")),
    }
}

fn dial(target: &Target, watch: &mut Watch<'_>, patience: Duration) -> Result<TcpStream, Refusal> {
    watch.check().map_err(|e| for_now("cannot connect", e))?;
    let addresses = (target.host.as_str(), target.port)
        .to_socket_addrs()
        .context(Kind::NodeUnreachable, || {
            format!("cannot resolve `{}`", target.host)
        })
        .map_err(Refusal::ForGood)?;
    // A zero timeout would be an error of its own kind.
    let patience = patience.clamp(Duration::from_millis(1), PATIENCE_MOST);
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(socket) => {
                // Requests are small and each waits for its answer: batching only delays them.
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Err(e) => last = e.to_string(),
        }
    }
    Err(Refusal::ForNow(format!("cannot connect: {last}")))
}

/// Waits for the first bytes of a server, without taking them.
fn await_banner(
    socket: &TcpStream,
    watch: &mut Watch<'_>,
    patience: Duration,
) -> Result<(), Refusal> {
    const WHAT: &str = "no greeting from an SSH server";
    let mut watch = watch.within(patience);
    loop {
        watch.check().map_err(|e| for_now(WHAT, e))?;
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        poll_once(&mut fds, watch.left(SLICE)).map_err(|e| for_now(WHAT, e))?;
        if fds[0].revents().is_empty() {
            continue;
        }
        let mut begin = [0; GREETING.len()];
        return match socket.peek(&mut begin) {
            Ok(0) => Err(Refusal::ForNow(format!(
                "{WHAT}: the connection was closed"
            ))),
            Ok(n) if !GREETING.starts_with(&begin[..n]) => Err(Refusal::ForNow(format!(
                "{WHAT}: what answers begins with something else"
            ))),
            Ok(_) => Ok(()),
            Err(e) => Err(for_now(WHAT, e.into())),
        };
    }
}

fn handshake(link: &mut Link, watch: &mut Watch<'_>, target: &Target) -> Result<(), Refusal> {
    for (method, names) in METHODS {
        link.session()
            .method_pref(method, names)
            .map_err(|e| for_now("cannot choose how to encrypt", e.into()))?;
    }
    link.complete(watch, &mut |session| session.handshake())
        .map_err(|failure| match &failure {
            Failure::Ssh(e) if is_one_of(e, &NO_COMMON_METHOD) => {
                let message = format!("what answers on {} is not the node", target.address());
                let why = format!("it offers no {HOST_KEY_METHOD} host key: {failure}");
                Refusal::ForGood(impostor(target, message).with_source(why))
            }
            _ => for_now("the SSH handshake failed", failure),
        })
}

/// Compares the whole key, before anything secret is said.
fn verify_host_key(link: &Link, credentials: &Credentials<'_>) -> Result<()> {
    let target = credentials.target;
    let actual = link
        .session()
        .host_key()
        .map(|(key, _)| key)
        .unwrap_or_default();
    if actual == credentials.host_key {
        return Ok(());
    }
    let message = format!(
        "something else than the node answers on {}: its host key differs",
        target.address()
    );
    let (expected, actual) = (fingerprint(&credentials.host_key), fingerprint(actual));
    let keys = format!("expected {expected}\nactual   {actual}");
    Err(impostor(target, message).with_detail("host keys", keys))
}

/// Returns the error of a server in the node's place.
fn impostor(target: &Target, message: String) -> Error {
    Error::unreachable(message).with_hint(format!(
        "see which program has the port: ss -ltnp 'sport = :{}'",
        target.port
    ))
}

fn log_in(
    link: &mut Link,
    watch: &mut Watch<'_>,
    credentials: &Credentials<'_>,
) -> Result<(), Refusal> {
    let target = credentials.target;
    let result = link.complete(watch, &mut |session| {
        session.userauth_pubkey_memory(&target.user, None, &credentials.private_key, None)
    });
    result.map_err(|failure| match &failure {
        Failure::Ssh(e) if is_one_of(e, &LOGIN_REFUSED) => Refusal::ForGood(
            Error::unreachable(format!(
                "the node on {} refuses the SSH key {} of user `{}`",
                target.address(),
                target.private_key.display(),
                target.user
            ))
            .with_source(failure.to_string())
            .with_hint("the keys no longer match: kubby delete, then kubby start"),
        ),
        _ => for_now("the SSH login failed", failure),
    })
}

fn is_one_of(e: &ssh2::Error, codes: &[i32]) -> bool {
    matches!(e.code(), ErrorCode::Session(code) if codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_time_and_has_bounds() {
        let after = |seconds| patience(Duration::from_secs(seconds));
        assert_eq!(after(0), PATIENCE_LEAST);
        assert_eq!(after(20), PATIENCE_LEAST + Duration::from_millis(500));
        assert_eq!(after(100_000), PATIENCE_MOST);
    }
}
