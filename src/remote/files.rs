//! Files in the node: written whole or not at all, and compared in one round trip.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use sha2::{Digest, Sha256};

use super::quote;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::units::hex;

/// Bits of a mode that say what a file is, and the two kinds that occur here.
const TYPE_BITS: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// A file as it should be in the node. A path that ends in `/` stands for a directory.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeFile {
    /// Absolute path in the node.
    pub path: String,
    /// Permission bits, such as `0o600`.
    pub mode: u32,
    /// The content; empty for a directory.
    pub content: Vec<u8>,
}

impl NodeFile {
    /// Returns a file.
    pub fn new(path: impl Into<String>, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        NodeFile {
            path: path.into(),
            mode,
            content: content.into(),
        }
    }

    fn is_dir(&self) -> bool {
        self.path.ends_with('/')
    }

    /// Returns the directory and the name of the file.
    fn split(&self) -> (&str, &str) {
        let (dir, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        (if dir.is_empty() { "/" } else { dir }, name)
    }
}

/// The content may be a private key, so only its size is shown.
impl fmt::Debug for NodeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeFile")
            .field("path", &self.path)
            .field("mode", &format_args!("{:#o}", self.mode))
            .field("content", &format_args!("{} bytes", self.content.len()))
            .finish()
    }
}

/// Returns the script that prints the state of these files in the node.
pub(super) fn state_script(files: &[NodeFile]) -> Result<String> {
    validate(files)?;
    // Both tools fail for files that are missing; what they print about the others is the answer.
    let mut script = String::from("export LC_ALL=C\nset --");
    for file in files {
        script.push(' ');
        script.push_str(&quote(&file.path));
    }
    script.push_str("\nstat --printf '%f %n\\0' -- \"$@\" 2>/dev/null\n");
    script.push_str("sha256sum -z -- \"$@\" 2>/dev/null\nexit 0\n");
    Ok(script)
}

/// Returns (by index) the files that differ from the output of [`state_script`].
pub(super) fn differing(files: &[NodeFile], optional: &[&str], state: &[u8]) -> Vec<usize> {
    let state = String::from_utf8_lossy(state);
    let (modes, sums) = parse_state(&state);
    let is_same = |file: &NodeFile| {
        let path = file.path.as_str();
        if file.content.is_empty() && optional.contains(&path) && !modes.contains_key(path) {
            return true;
        }
        let kind = if file.is_dir() { DIRECTORY } else { REGULAR };
        modes.get(path) == Some(&(kind | (file.mode & !TYPE_BITS)))
            && (file.is_dir() || sums.get(path) == Some(&hex(&Sha256::digest(&file.content))))
    };
    (0..files.len()).filter(|i| !is_same(&files[*i])).collect()
}

/// Modes and checksums by path, from records that end in NUL: `81a4 /path` and `<sum>  /path`.
fn parse_state(text: &str) -> (HashMap<&str, u32>, HashMap<&str, String>) {
    let (mut modes, mut sums) = (HashMap::new(), HashMap::new());
    for record in text.split('\0') {
        let Some((value, path)) = record.split_once(' ') else {
            continue;
        };
        let path = path.trim_start_matches([' ', '*']);
        if value.len() == 64 {
            sums.insert(path, value.to_owned());
        } else if let Ok(mode) = u32::from_str_radix(value, 16) {
            modes.insert(path, mode);
        }
    }
    (modes, sums)
}

/// A command that writes files, and its input.
pub(super) struct Push {
    pub(super) command: String,
    pub(super) input: Vec<u8>,
    /// The name of the work, for its error.
    pub(super) what: String,
}

/// Returns the command that writes these files, of which there is at least one.
pub(super) fn push(files: &[NodeFile]) -> Result<Push> {
    validate(files)?;
    let stage = format!(".kubby-{}", uuid::Uuid::new_v4().simple());
    // The script travels ahead of the archive, because its length has no limit there.
    let script = apply_script(files, &stage);
    let command = format!("eval \"$(head -c {})\"", script.len());
    let mut input = script.into_bytes();
    input.extend(archive(files, &stage).context(Kind::Internal, || "cannot pack files".into())?);
    let what = match files {
        [file] => format!("writing {}", file.path),
        _ => format!("writing {} files, from {} on,", files.len(), files[0].path),
    };
    Ok(Push {
        command,
        input,
        what,
    })
}

/// Packs the files, each in a staging directory beside its final place, so that the final rename is
/// within one file system and therefore atomic.
fn archive(files: &[NodeFile], stage: &str) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in files.iter().filter(|f| !f.is_dir()) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(file.mode);
        header.set_size(file.content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let (dir, name) = file.split();
        let path = format!("{dir}/{stage}/{name}");
        let path = path.trim_start_matches('/');
        tar.append_data(&mut header, path, file.content.as_slice())?;
    }
    tar.into_inner()
}

/// Returns the shell script that makes directories, unpacks its further input and renames the
/// files.
fn apply_script(files: &[NodeFile], stage: &str) -> String {
    let mut script = String::from("set -eu\numask 022\n");
    let mut directories: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut moves: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files {
        if file.is_dir() {
            directories
                .entry(file.mode)
                .or_default()
                .push(quote(&file.path));
        } else {
            let (dir, name) = file.split();
            moves.entry(dir).or_default().push(name);
        }
    }
    for (mode, paths) in &directories {
        script += &format!("install -d -m {mode:04o} -- {}\n", paths.join(" "));
    }
    let staged = |dir: &str| quote(&format!("{}/{stage}", dir.trim_end_matches('/')));
    let stages: Vec<String> = moves.keys().map(|dir| staged(dir)).collect();
    if stages.is_empty() {
        return script;
    }
    let stages = stages.join(" ");
    script += &format!("cleanup() {{ rm -rf -- {stages}; }}\ntrap cleanup EXIT\n");
    script += &format!("mkdir -p -m 0700 -- {stages}\n");
    // Times are the node's own (-m): its clock may differ from this host's.
    script += "tar -x -p -m --no-same-owner -C / -f -\n";
    for (dir, names) in &moves {
        script += &format!("mv -f -t {} --", quote(dir));
        for name in names {
            script += &format!(" {}/{}", staged(dir), quote(name));
        }
        script.push('\n');
    }
    script
}

fn validate(files: &[NodeFile]) -> Result<()> {
    let mut seen = HashSet::new();
    for file in files {
        let path = &file.path;
        let parts = path.trim_end_matches('/').split('/').skip(1);
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !path.starts_with('/') || path.contains('\0') || !parts.clone().all(is_plain) {
            return Err(Error::internal(format!(
                "`{path}` is not a plain absolute path in the node"
            )));
        }
        if parts.count() == 0 || !seen.insert(path.trim_end_matches('/')) {
            return Err(Error::internal(format!(
                "`{path}` occurs twice or is the root"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> NodeFile {
        NodeFile::new(path, 0o600, "secret")
    }

    #[test]
    fn debug_output_hides_the_content() {
        let text = format!("{:?}", file("/etc/key"));
        assert!(text.contains("/etc/key") && text.contains("0o600") && text.contains("6 bytes"));
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in [
            "",
            "/",
            "//",
            "etc/x",
            "/etc/../x",
            "/etc/./x",
            "/etc//x",
            "/a\0b",
            "/..",
        ] {
            assert!(validate(&[file(path)]).is_err(), "{path:?}");
        }
        for path in ["/x", "/etc/x", "/etc/x/", "/etc/..x", "/etc/two words"] {
            assert!(validate(&[file(path)]).is_ok(), "{path:?}");
        }
        assert!(validate(&[file("/x"), file("/x")]).is_err());
        assert!(validate(&[file("/x"), file("/x/")]).is_err());
    }

    #[test]
    fn the_script_holds_no_content_and_quotes_paths() {
        let files = [file("/etc/a b/it's"), NodeFile::new("/etc/a b/", 0o700, "")];
        let script = apply_script(&files, ".stage");
        assert!(!script.contains("secret"));
        assert!(
            script.contains("install -d -m 0700 -- '/etc/a b/'\n"),
            "{script}"
        );
        assert!(
            script.contains(r"mv -f -t '/etc/a b' -- '/etc/a b/.stage'/'it'\''s'"),
            "{script}"
        );
    }

    #[test]
    fn states_parse() {
        let sum = "a".repeat(64);
        let text = format!("81a4 /etc/x\x0041c0 /etc/d d/\0{sum}  /etc/x\0");
        let (modes, sums) = parse_state(&text);
        assert_eq!(modes["/etc/x"], 0o100_644);
        assert_eq!(modes["/etc/d d/"], 0o040_700);
        assert_eq!(sums["/etc/x"], sum);
    }
}
