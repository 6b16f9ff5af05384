//! The facts about the files of an archive that were read.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::decode::{self, CHUNK};
use super::entries::{self, Entries, Entry, Kind, clean};
use super::errors::Errors;
use crate::error::Result;
use crate::image::reference::is_lower_hex;
use crate::units::hex;

/// The index of an OCI layout.
pub(super) const INDEX: &str = "index.json";
/// The mark of an OCI layout.
pub(super) const LAYOUT: &str = "oci-layout";
/// The index that `docker save` writes.
pub(super) const MANIFEST: &str = "manifest.json";
/// Files that are not passed on: the names in them are given last, by an index that kubby writes.
const HELD: [&str; 4] = [INDEX, LAYOUT, MANIFEST, "repositories"];

/// The largest JSON file that is kept. Real ones have some kilobytes.
const JSON_MOST: u64 = 1 << 20;
/// The most JSON that is kept of an archive, in bytes.
const JSON_MOST_TOGETHER: usize = 12 << 20;
/// The most files that an archive may hold, a bound for memory. Real ones have far fewer.
const FILES_MOST: usize = 50_000;
/// The longest name that an entry's header holds. Names of blobs have 77 bytes.
const NAME_MOST: usize = 100;
/// The most links that are followed, one after the other.
const LINKS_MOST: usize = 8;

/// A file that was read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) size: u64,
    /// The digest of its content, `sha256:…`.
    pub(super) digest: String,
    /// Whether it is compressed itself, as layers may be.
    pub(super) compressed: bool,
}

/// The files of an archive by their names.
pub(super) struct Files<'a> {
    pub(super) errors: Errors<'a>,
    present: &'a HashSet<String>,
    files: HashMap<String, File>,
    links: HashMap<String, String>,
    json: HashMap<String, Vec<u8>>,
    json_bytes: usize,
    /// Bytes that were not passed on since the receiver has them.
    pub(super) spared: u64,
}

impl<'a> Files<'a> {
    pub(super) fn new(errors: Errors<'a>, present: &'a HashSet<String>) -> Self {
        Files {
            errors,
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
                .errors
                .not_an_archive(format!("it holds more than {FILES_MOST} files")));
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
            return Err(self.errors.damaged(format!("it holds `{name}` twice")));
        }
        let held = HELD.contains(&name);
        if held && entry.size > JSON_MOST {
            let size = entry.size;
            let why = format!("`{name}` has {size} bytes, the most is {JSON_MOST}");
            return Err(self.errors.damaged(why));
        }
        let present = claimed.as_ref().is_some_and(|d| self.present.contains(d));
        let fits = (1..=NAME_MOST).contains(&name.len());
        let pass = fits && !held && !again && !present;
        if pass {
            send(&entries::header(name, entry.size))?;
        }
        let file = self.read(entry, entries, again, &mut |data| match pass {
            true => send(data),
            false => Ok(()),
        })?;
        if pass {
            send(entries::padding(entry.size))?;
        }
        if let Some(claimed) = claimed.filter(|c| *c != file.digest) {
            let why = format!("the content of `{name}` is not {claimed}");
            return Err(self.errors.damaged(why));
        }
        if present && !again {
            self.spared += entry.size;
        }
        self.files.insert(name.to_owned(), file);
        Ok(())
    }

    /// Reads a file's data and passes it on; JSON is kept, unless the file was read before.
    fn read(
        &mut self,
        entry: &Entry,
        entries: &mut Entries<'_>,
        again: bool,
        send: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<File> {
        let held = HELD.contains(&entry.name.as_str());
        let mut keep: Option<Vec<u8>> = None;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut compressed = false;
        let mut is_first = true;
        loop {
            let n = entries.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            let data = &buffer[..n];
            if std::mem::take(&mut is_first) {
                compressed = decode::is_compressed(data);
                let object = data.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
                let json = held || (object && entry.size <= JSON_MOST);
                keep = (json && !again).then(Vec::new);
            }
            hash.update(data);
            if let Some(keep) = &mut keep {
                self.json_bytes += n;
                if self.json_bytes > JSON_MOST_TOGETHER {
                    let why = "it holds too much JSON for one";
                    return Err(self.errors.not_an_archive(why));
                }
                keep.extend_from_slice(data);
            }
            send(data)?;
        }
        self.json
            .extend(keep.map(|json| (entry.name.clone(), json)));
        Ok(File {
            size: entry.size,
            digest: format!("sha256:{}", hex(&hash.finalize())),
            compressed,
        })
    }

    /// Returns a file by its name, with the name that it has itself; links are followed.
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

    /// Returns the content of a JSON file.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some((name, file)) = self.get(name) else {
            return Ok(None);
        };
        let Some(text) = self.json.get(name) else {
            let size = file.size;
            return Err(self.errors.damaged(format!(
                "`{name}` of {size} bytes should be a JSON object of at most {JSON_MOST} bytes"
            )));
        };
        serde_json::from_slice(text).map(Some).map_err(|e| {
            self.errors
                .damaged(format!("`{name}` is not as expected: {e}"))
        })
    }
}

/// Returns the digest `sha256:…` in the name of a blob, `blobs/sha256/…`.
fn blob_digest(name: &str) -> Option<String> {
    let hex = name.strip_prefix("blobs/sha256/")?;
    (hex.len() == 64 && hex.bytes().all(is_lower_hex)).then(|| format!("sha256:{hex}"))
}
