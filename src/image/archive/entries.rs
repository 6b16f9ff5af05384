//! The entries of a tar stream: names and data one after the other, with bounds on all that has
//! to be kept. Our own walk, since a general one keeps names of any length and takes a missing
//! end for a good one.

use std::io::Read;

use tar::{EntryType, Header, PaxExtensions};

use super::Say;
use crate::error::Result;

pub(super) const BLOCK: u64 = 512;

/// The longest extended header (a long name, attributes) that is read.
const EXTENSION_MOST: u64 = 64 * 1024;

/// A file, folder or link of the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name, relative and without `.` and `..`.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Size of its data.
    pub(super) size: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A symbolic or hard link with what it points to, as it is written.
    Link {
        target: String,
        hard: bool,
    },
    /// Folders and devices, which say nothing about images.
    Other,
}

/// Reads entries in turn; what the caller leaves of an entry's data is skipped.
pub(super) struct Entries<'a> {
    source: &'a mut dyn Read,
    say: Say<'a>,
    /// Data of the current entry that is not read yet.
    left: u64,
    padding: u64,
    /// Whether a valid header was seen: before that it may be anything.
    began: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn new(source: &'a mut dyn Read, say: Say<'a>) -> Self {
        Entries {
            source,
            say,
            left: 0,
            padding: 0,
            began: false,
        }
    }

    /// The next entry; `None` at the archive's end, when the rest of the stream is read as well.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        let mut long_name = None;
        let mut long_link = None;
        let mut size = None;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if long_name.is_some() || long_link.is_some() {
                    return Err(self.say.damaged("a long name belongs to nothing"));
                }
                return Ok(None);
            };
            let own_size = header.entry_size().map_err(|e| self.say.damaged(e))?;
            match header.entry_type() {
                EntryType::GNULongName => long_name = Some(self.text(own_size)?),
                EntryType::GNULongLink => long_link = Some(self.text(own_size)?),
                EntryType::XHeader => {
                    let data = self.extension(own_size)?;
                    for item in PaxExtensions::new(&data) {
                        let item = item.map_err(|e| self.say.damaged(e))?;
                        let value = String::from_utf8_lossy(item.value_bytes()).into_owned();
                        match item.key_bytes() {
                            b"path" => long_name = Some(value),
                            b"linkpath" => long_link = Some(value),
                            b"size" => {
                                let n = value
                                    .parse()
                                    .map_err(|_| self.say.damaged("a size is no number"))?;
                                size = Some(n);
                            }
                            _ => {}
                        }
                    }
                }
                EntryType::XGlobalHeader => drop(self.extension(own_size)?),
                kind => {
                    let size = size.unwrap_or(own_size);
                    return self
                        .entry(&header, kind, size, long_name, long_link)
                        .map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: u64,
        long_name: Option<String>,
        long_link: Option<String>,
    ) -> Result<Entry> {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let raw = long_name.unwrap_or_else(|| lossy(&header.path_bytes()));
        let target = long_link.unwrap_or_else(|| {
            header
                .link_name_bytes()
                .map_or(String::new(), |t| lossy(&t))
        });
        let kind = match kind {
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::GNUSparse => {
                return Err(self
                    .say
                    .damaged("it holds a sparse file; write it without --sparse"));
            }
            EntryType::Symlink => Kind::Link {
                target,
                hard: false,
            },
            EntryType::Link => Kind::Link { target, hard: true },
            _ => Kind::Other,
        };
        // Only files have data, whatever the size of others says.
        let size = if kind == Kind::File { size } else { 0 };
        let name = clean("", &raw).ok_or_else(|| {
            self.say
                .damaged(format!("`{}` leads out of it", raw.escape_debug()))
        })?;
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        Ok(Entry { name, kind, size })
    }

    /// Reads some of the current entry's data; 0 at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let got = self.some(&mut buffer[..most])?;
        if got == 0 {
            return Err(self.say.cut("a file in it is not whole"));
        }
        self.left -= got as u64;
        Ok(got)
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.source.read(buffer) {
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.say.unreadable(&e)),
            }
        }
    }

    /// Fills the buffer as far as the stream goes.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut have = 0;
        while have < buffer.len() {
            match self.some(&mut buffer[have..])? {
                0 => break,
                n => have += n,
            }
        }
        Ok(have)
    }

    fn skip(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        while self.read(&mut buffer)? > 0 {}
        let padding = usize::try_from(self.padding).unwrap_or(0);
        self.padding = 0;
        if self.fill(&mut buffer[..padding])? < padding {
            return Err(self.say.cut("it ends within a file's padding"));
        }
        Ok(())
    }

    /// A header with a valid checksum, or `None` at the archive's end.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK as usize];
        let have = self.fill(&mut block)?;
        if have < block.len() {
            return Err(match (self.began, have) {
                (false, 0) => self.say.no_archive("it is empty"),
                (false, _) => self
                    .say
                    .no_archive("it is shorter than a tar archive can be"),
                (true, _) => self.say.cut("the end of the tar archive is missing"),
            });
        }
        if block.iter().all(|b| *b == 0) {
            self.end()?;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum: u32 = block[..148]
            .iter()
            .chain(&block[156..])
            .map(|b| u32::from(*b))
            .sum::<u32>()
            + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(if self.began {
                self.say.damaged("a header in it has a wrong checksum")
            } else {
                self.say
                    .no_archive("it is no tar archive, plain or compressed by gzip or zstd")
            });
        }
        self.began = true;
        Ok(Some(header))
    }

    /// The second block of the end, and what may follow: that a compressed stream's own checksum
    /// is looked at, everything is read.
    fn end(&mut self) -> Result<()> {
        let mut block = [0; BLOCK as usize];
        if self.fill(&mut block)? < block.len() {
            return Err(self.say.cut("the end of the tar archive is not whole"));
        }
        if block.iter().any(|b| *b != 0) {
            return Err(self.say.damaged("its end mark has something behind it"));
        }
        if !self.began {
            return Err(self.say.no_archive("it is an empty tar archive"));
        }
        let mut rest = vec![0; super::CHUNK];
        while self.some(&mut rest)? > 0 {
            crate::interrupt::check()?;
        }
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_MOST {
            return Err(self.say.damaged("it holds a name longer than any"));
        }
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut have = 0;
        while have < data.len() {
            have += self.read(&mut data[have..])?;
        }
        Ok(data)
    }

    /// An extension that is one text, ended by NUL.
    fn text(&mut self, size: u64) -> Result<String> {
        let data = self.extension(size)?;
        let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
        Ok(String::from_utf8_lossy(&data[..end]).into_owned())
    }
}

/// Joins a path to a folder and resolves `.` and `..`; `None` when it leads out of the archive or
/// is absolute.
pub(super) fn clean(folder: &str, path: &str) -> Option<String> {
    if path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The header of a file. `name` has at most 100 bytes.
pub(super) fn header(name: &str, size: u64) -> [u8; BLOCK as usize] {
    let mut header = Header::new_ustar();
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.name[..name.len()].copy_from_slice(name.as_bytes());
    }
    header.set_mode(0o644);
    header.set_size(size);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    *header.as_bytes()
}

/// The zeros after a file of this size.
pub(super) fn padding(size: u64) -> &'static [u8] {
    static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
    let len = (BLOCK - size % BLOCK) % BLOCK;
    &ZEROS[..usize::try_from(len).unwrap_or(0)]
}
