//! What is known of the files of an archive once they went by.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::entries::{self, Entries, Entry, Kind, clean};
use super::{CHUNK, Say, decode};
use crate::error::Result;

/// The index of an OCI layout.
pub(super) const INDEX: &str = "index.json";
/// The mark of an OCI layout.
pub(super) const LAYOUT: &str = "oci-layout";
/// The index that `docker save` writes.
pub(super) const MANIFEST: &str = "manifest.json";
/// These are not passed on: the names in them are given last, by an index of our own.
const HELD: [&str; 4] = [INDEX, LAYOUT, MANIFEST, "repositories"];

/// The largest JSON file that is kept. Real ones have some kilobytes.
const JSON_MOST: u64 = 1 << 20;
/// How much JSON is kept of an archive.
const JSON_MOST_TOGETHER: usize = 12 << 20;
/// How many files an archive may hold; a bound for memory that no real one comes near.
const FILES_MOST: usize = 50_000;
/// The longest name that an entry's header holds. Names of blobs have 77 bytes.
const NAME_MOST: usize = 100;
/// How many links lead from one to the next.
const LINKS_MOST: usize = 8;

/// A file that went by.
#[derive(Debug)]
pub(super) struct File {
    pub(super) size: u64,
    /// `sha256:…` of its content.
    pub(super) digest: String,
    /// Whether it is compressed in itself, as layers may be.
    pub(super) compressed: bool,
}

/// The files of an archive by their names.
pub(super) struct Files<'a> {
    pub(super) say: Say<'a>,
    present: &'a HashSet<String>,
    files: HashMap<String, File>,
    links: HashMap<String, String>,
    json: HashMap<String, Vec<u8>>,
    json_bytes: usize,
    /// Bytes that were not passed on since the receiver has them.
    pub(super) spared: u64,
}

impl<'a> Files<'a> {
    pub(super) fn new(say: Say<'a>, present: &'a HashSet<String>) -> Self {
        Files {
            say,
            present,
            files: HashMap::new(),
            links: HashMap::new(),
            json: HashMap::new(),
            json_bytes: 0,
            spared: 0,
        }
    }

    /// Reads one entry, keeps what is needed of it, and passes it on where it is a file.
    pub(super) fn take(
        &mut self,
        entry: &Entry,
        entries: &mut Entries<'_>,
        send: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.files.len() + self.links.len() >= FILES_MOST {
            return Err(self
                .say
                .no_archive(format!("it holds more than {FILES_MOST} files")));
        }
        match &entry.kind {
            Kind::Other => Ok(()),
            Kind::Link { target, hard } => {
                let folder = match entry.name.rsplit_once('/') {
                    Some((folder, _)) if !hard => folder,
                    _ => "",
                };
                if let Some(to) = clean(folder, target) {
                    self.links.insert(entry.name.clone(), to);
                }
                Ok(())
            }
            Kind::File => self.file(entry, entries, send),
        }
    }

    fn file(
        &mut self,
        entry: &Entry,
        entries: &mut Entries<'_>,
        send: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let name = entry.name.as_str();
        let claimed = blob_digest(name);
        // The same blob again is the same content, which is checked; any other file that comes
        // twice could mean one thing to us and another to the runtime.
        let again = self.files.contains_key(name);
        if again && claimed.is_none() {
            return Err(self.say.damaged(format!("it holds `{name}` twice")));
        }
        let held = HELD.contains(&name);
        if held && entry.size > JSON_MOST {
            return Err(self.say.damaged(format!(
                "`{name}` has {} bytes, the most is {JSON_MOST}",
                entry.size
            )));
        }
        let present = claimed.as_ref().is_some_and(|d| self.present.contains(d));
        let fits = (1..=NAME_MOST).contains(&name.len());
        let pass = fits && !held && !again && !present;
        let mut keep: Option<Vec<u8>> = None;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut compressed = false;
        let mut done = 0;
        if pass {
            send(&entries::header(name, entry.size))?;
        }
        loop {
            let n = entries.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            let data = &buffer[..n];
            if done == 0 {
                compressed = decode::is_compressed(data);
                let object = data.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
                let json = held || (object && entry.size <= JSON_MOST);
                keep = (json && !again).then(Vec::new);
            }
            done += n as u64;
            hash.update(data);
            if let Some(keep) = &mut keep {
                self.json_bytes += n;
                if self.json_bytes > JSON_MOST_TOGETHER {
                    return Err(self.say.no_archive("it holds too much JSON for one"));
                }
                keep.extend_from_slice(data);
            }
            if pass {
                send(data)?;
            }
        }
        if pass {
            send(entries::padding(entry.size))?;
        }
        let digest = digest_of(hash);
        if let Some(claimed) = claimed.filter(|c| *c != digest) {
            return Err(self
                .say
                .damaged(format!("the content of `{name}` is not {claimed}")));
        }
        if present && !again {
            self.spared += entry.size;
        }
        if let Some(json) = keep {
            self.json.insert(name.to_owned(), json);
        }
        self.files.insert(
            name.to_owned(),
            File {
                size: entry.size,
                digest,
                compressed,
            },
        );
        Ok(())
    }

    /// A file by its name; links are followed. Says what name it has in the end.
    pub(super) fn get(&self, name: &str) -> Option<(&str, &File)> {
        let mut name = clean("", name)?;
        for _ in 0..LINKS_MOST {
            if let Some((name, file)) = self.files.get_key_value(&name) {
                return Some((name, file));
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    /// The content of a JSON file.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some((name, file)) = self.get(name) else {
            return Ok(None);
        };
        let Some(text) = self.json.get(name) else {
            return Err(self.say.damaged(format!(
                "`{name}` of {} bytes should be a JSON object of at most {JSON_MOST} bytes",
                file.size
            )));
        };
        serde_json::from_slice(text).map(Some).map_err(|e| {
            self.say
                .damaged(format!("`{name}` is not as expected: {e}"))
        })
    }
}

/// `sha256:…` when the name is that of a blob: `blobs/sha256/…`.
fn blob_digest(name: &str) -> Option<String> {
    let hex = name.strip_prefix("blobs/sha256/")?;
    (hex.len() == 64 && hex.bytes().all(super::super::reference::is_lower_hex))
        .then(|| format!("sha256:{hex}"))
}

fn digest_of(hash: Sha256) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in hash.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
