//! The programs of a machine: the seed's unpacking, the SSH server's keys, and scripts.

use std::io::Read as _;
use std::sync::Arc;

use super::disk::{Content, Volume};

/// The file with the SSH server's public key.
pub(super) const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key.pub";
/// The file with the operator's public key.
pub(super) const AUTHORIZED: &str = "/root/.ssh/authorized_keys";

/// Unpacks the seed unless it was unpacked at an earlier boot.
pub(super) fn unpack_seed(content: &mut Content, seed: &Volume) {
    let Some((upload, bytes)) = &seed.bytes else {
        return;
    };
    if content.seed == *upload {
        return;
    }
    let mut archive = tar::Archive::new(&bytes[..]);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = format!("/{}", entry.path().unwrap().display());
        let mode = entry.header().mode().unwrap();
        let mut file = Vec::new();
        entry.read_to_end(&mut file).unwrap();
        content.write(&path, mode, file);
    }
    content.seed = *upload;
}

/// Runs a script in the node: it writes files with `printf`, and makes the SSH server read its keys again.
/// Returns whether it does the latter.
pub(super) fn run_script(content: &mut Content, script: &str) -> bool {
    let mut rest = script;
    while let Some(at) = rest.find("printf %s ") {
        // Not within a word, such as a certificate.
        let (text, after) = word(&rest[at + "printf %s ".len()..]);
        let Some(after) = after.strip_prefix(" > ") else {
            rest = &rest[at + 1..];
            continue;
        };
        let (path, after) = word(after);
        let mode = content.files.get(&path).map_or(0o600, |(mode, _)| *mode);
        content.write(&path, mode, text.into_bytes());
        rest = after;
    }
    script.contains("kill -HUP")
}

/// Reads one word of a POSIX shell, and returns what follows it.
fn word(text: &str) -> (String, &str) {
    let mut word = String::new();
    let mut rest = text;
    loop {
        match rest.chars().next() {
            Some('\'') => {
                let end = rest[1..].find('\'').unwrap() + 1;
                word.push_str(&rest[1..end]);
                rest = &rest[end + 1..];
            }
            Some('\\') => {
                word.extend(rest[1..].chars().next());
                rest = &rest[2..];
            }
            None | Some(' ' | '\n') => return (word, rest),
            Some(plain) => {
                word.push(plain);
                rest = &rest[plain.len_utf8()..];
            }
        }
    }
}

/// Returns what a command in the node writes to its standard output.
pub(super) fn answer(command: &str) -> Vec<u8> {
    if command.contains("btime") {
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        return format!("{}\n", now - 60).into_bytes();
    }
    if command.ends_with("/healthz") {
        return b"ok".to_vec();
    }
    if command.contains("/comm") {
        let names = crate::provision::processes(crate::role::Role::ControlPlane);
        let lines = names
            .iter()
            .map(|name| format!("{}\n", &name[..name.len().min(15)]));
        return lines.collect::<String>().into_bytes();
    }
    Vec::new()
}

/// Returns the public key that the SSH server would read now.
pub(super) fn host_key(content: &Content) -> Arc<str> {
    content.text(HOST_KEY).into()
}
