//! The host's own channel into a machine: a virtio port that a script in the node reads.
//!
//! It needs no network, no keys and no processes to start in the node, so a machine that is loaded
//! from saved memory gets its identity and the time through it at once. On the host it is a pair of
//! named pipes that only QEMU's user and root can open.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::wait;

const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Returns the pipes of a channel: the one that the host writes to, and the one that it reads.
fn pipes(channel: &Path) -> [PathBuf; 2] {
    [".in", ".out"].map(|end| {
        let mut path = channel.as_os_str().to_owned();
        path.push(end);
        path.into()
    })
}

/// Makes the pipes where they are missing; libvirt gives them to QEMU's user.
///
/// # Errors
/// [`Kind::Hypervisor`] when the file system refuses.
pub(crate) fn ensure(channel: &Path) -> Result<()> {
    for path in pipes(channel) {
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => {
                return Err(e).context(Kind::Hypervisor, || {
                    format!("cannot make the pipe {}", path.display())
                });
            }
        }
    }
    Ok(())
}

/// Removes the pipes; returns whether there were any.
///
/// # Errors
/// [`Kind::Hypervisor`] when the file system refuses.
pub(crate) fn remove(channel: &Path) -> Result<bool> {
    let mut any = false;
    for path in pipes(channel) {
        match fs::remove_file(&path) {
            Ok(()) => any = true,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => {
                return Err(e).context(Kind::Hypervisor, || {
                    format!("cannot remove the pipe {}", path.display())
                });
            }
        }
    }
    Ok(any)
}

/// Runs a script by a shell in the node, and waits for its end.
///
/// # Errors
/// [`Kind::NodeUnreachable`] when the node does not answer within `limit`, [`Kind::Unhealthy`] when
/// the script fails, [`Kind::Interrupted`] on Ctrl-C.
pub(super) fn run(channel: &Path, script: &str, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    let [to, from] = pipes(channel);
    let (to, from) = (&mut open(&to)?, &mut open(&from)?);
    // Answers to earlier scripts that were not read are of no use any more.
    let mut rest = [0; 4096];
    while from.read(&mut rest).is_ok_and(|n| n > 0) {}
    let id = uuid::Uuid::new_v4().simple().to_string();
    let message = format!("{id} {}\n{script}", script.len());
    let sent = send(to, message.as_bytes(), until)?;
    let status = sent.and_then(|()| answer(from, &id, until).transpose());
    match status.transpose()?.as_deref() {
        Some("0") => Ok(()),
        Some(status) => Err(Error::unhealthy(format!(
            "the script that was sent through the node's channel failed (status {status})"
        ))),
        None => Err(Error::unreachable(format!(
            "the node did not answer through its channel within {:.1} s",
            limit.as_secs_f32()
        ))),
    }
}

/// Opens a pipe both ways: with one way this would fail or block while no other process has the
/// other end open.
fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .context(Kind::NodeUnreachable, || {
            format!("cannot open the pipe {}", path.display())
        })
}

/// Writes the bytes; returns `None` when the node has not read them by then.
fn send(to: &mut File, mut bytes: &[u8], until: Instant) -> Result<Option<()>> {
    wait::poll(until, LOOK_EVERY, || {
        match to.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => {
                return Err(e).context(Kind::NodeUnreachable, || {
                    "cannot write to the node's channel".into()
                });
            }
        }
        Ok(bytes.is_empty().then_some(()))
    })
}

/// Waits for the line that begins with the id, and returns the rest of it. The guest may write
/// whatever it likes, so no more is kept than a line can have.
fn answer(from: &mut File, id: &str, until: Instant) -> Result<Option<String>> {
    let mut text: Vec<u8> = Vec::new();
    let mut buffer = [0; 256];
    wait::poll(until, LOOK_EVERY, || {
        // A guest that writes without end cannot hold up the deadline.
        for _ in 0..16 {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => text.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => {
                    return Err(e).context(Kind::NodeUnreachable, || {
                        "cannot read from the node's channel".into()
                    });
                }
            }
        }
        while let Some(end) = text.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(status) = line.trim().strip_prefix(id) {
                return Ok(Some(status.trim().to_owned()));
            }
        }
        if text.len() > 1024 {
            text.clear();
        }
        Ok(None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    /// The node's end of the channel, as the image's own script is.
    fn node(channel: &Path) -> std::process::Child {
        let script = include_str!("../../images/node/root/usr/lib/kubby/channel");
        let [to, from] = pipes(channel);
        // The port is one file to the guest; two pipes stand for it here.
        let script = script
            .replace(
                "exec 3<>/dev/virtio-ports/dev.kubby.0",
                &format!("exec 3<>{} 4<>{}", to.display(), from.display()),
            )
            .replace(">&3", ">&4");
        std::process::Command::new("sh")
            .args(["-c", &script])
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_script_is_run_to_its_end() {
        let tmp = tempfile::tempdir().unwrap();
        let channel = tmp.path().join("c");
        ensure(&channel).unwrap();
        ensure(&channel).unwrap();
        let mut node = node(&channel);
        let limit = Duration::from_secs(10);
        let made = tmp.path().join("made");
        let long = "#".repeat(20_000);
        let script = format!("printf %s 'it'\\''s\nthere' > {}\n{long}", made.display());
        run(&channel, &script, limit).unwrap();
        assert_eq!(fs::read_to_string(&made).unwrap(), "it's\nthere");
        let e = run(&channel, "exit 3", limit).unwrap_err();
        assert_eq!(e.kind(), Kind::Unhealthy);
        assert!(e.message().contains("status 3"), "{e}");
        run(&channel, "true", limit).unwrap();
        node.kill().unwrap();
        node.wait().unwrap();
        assert!(remove(&channel).unwrap() && !remove(&channel).unwrap());
    }

    #[test]
    fn silence_and_noise_end_at_the_limit() {
        let tmp = tempfile::tempdir().unwrap();
        let channel = tmp.path().join("c");
        let limit = Duration::from_millis(300);
        let e = run(&channel, "true", limit).unwrap_err();
        assert_eq!(e.kind(), Kind::NodeUnreachable, "no pipes");
        ensure(&channel).unwrap();
        let [to, from] = pipes(&channel);
        let open = |path: &Path| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        let (to, mut from) = (open(&to), open(&from));
        let noise = std::thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(to).read_line(&mut line).unwrap();
            for _ in 0..100 {
                from.write_all(&[b'x'; 500]).unwrap();
                from.write_all(b"\nother 0\n").unwrap();
            }
            from
        });
        let e = run(&channel, "true", limit).unwrap_err();
        assert_eq!(e.kind(), Kind::NodeUnreachable);
        drop(noise.join().unwrap());
    }
}
