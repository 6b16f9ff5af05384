//! The entries of a tar stream: names and data one after the other, with bounds on all that has
//! to be kept. The walk is kubby's own, since that of the `tar` crate keeps names of any length and
//! takes a missing end for a good one.

use std::io::Read;

use tar::{EntryType, Header, PaxExtensions};

use super::decode::CHUNK;
use super::errors::Errors;
use crate::error::Result;

const BLOCK: u64 = 512;

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
    /// A symbolic or hard link with its unresolved target.
    Link {
        target: String,
        hard: bool,
    },
    /// Folders and devices, which do not matter for images.
    Other,
}

/// The parts of the next entry that stand before its header.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

/// Reads one entry after the other; the unread rest of an entry's data is skipped.
pub(super) struct Entries<'a> {
    source: &'a mut dyn Read,
    errors: Errors<'a>,
    /// Data of the current entry that is not read yet.
    left: u64,
    padding: usize,
    /// Whether a valid header was seen: before that it may be any file.
    began: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn new(source: &'a mut dyn Read, errors: Errors<'a>) -> Self {
        Entries {
            source,
            errors,
            left: 0,
            padding: 0,
            began: false,
        }
    }

    /// Returns the next entry; `None` at the archive's end, when the rest of the stream is read as
    /// well.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        let mut extended = Extended::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if extended.name.is_some() || extended.link.is_some() {
                    return Err(self.errors.damaged("a long name belongs to nothing"));
                }
                return Ok(None);
            };
            let size = header.entry_size().map_err(|e| self.errors.damaged(e))?;
            match header.entry_type() {
                EntryType::GNULongName => extended.name = Some(self.text(size)?),
                EntryType::GNULongLink => extended.link = Some(self.text(size)?),
                EntryType::XHeader => self.pax(size, &mut extended)?,
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                _ => return self.entry(&header, size, extended).map(Some),
            }
        }
    }

    fn pax(&mut self, size: u64, extended: &mut Extended) -> Result<()> {
        let data = self.extension(size)?;
        for item in PaxExtensions::new(&data) {
            let item = item.map_err(|e| self.errors.damaged(e))?;
            let value = String::from_utf8_lossy(item.value_bytes()).into_owned();
            match item.key_bytes() {
                b"path" => extended.name = Some(value),
                b"linkpath" => extended.link = Some(value),
                b"size" => {
                    let bad = |_| self.errors.damaged("a size is not a number");
                    extended.size = Some(value.parse().map_err(bad)?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header, own_size: u64, extended: Extended) -> Result<Entry> {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let raw = extended.name;
        let raw = raw.unwrap_or_else(|| lossy(&header.path_bytes()));
        let link = || header.link_name_bytes();
        let target = extended.link;
        let target = target.unwrap_or_else(|| link().map_or(String::new(), |t| lossy(&t)));
        let hard = header.entry_type() == EntryType::Link;
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::GNUSparse => {
                let why = "it holds a sparse file; write it without --sparse";
                return Err(self.errors.damaged(why));
            }
            EntryType::Symlink | EntryType::Link => Kind::Link { target, hard },
            _ => Kind::Other,
        };
        // Only files have data, whatever the size of others says.
        let size = match kind {
            Kind::File => extended.size.unwrap_or(own_size),
            _ => 0,
        };
        let leads_out = || {
            let name = raw.escape_debug();
            self.errors.damaged(format!("`{name}` leads out of it"))
        };
        let name = clean("", &raw).ok_or_else(leads_out)?;
        self.begin(size);
        Ok(Entry { name, kind, size })
    }

    /// Begins to read data of this size.
    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = padding(size).len();
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
            return Err(self.errors.cut("a file in it is not whole"));
        }
        self.left -= got as u64;
        Ok(got)
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.source.read(buffer) {
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.errors.unreadable(&e)),
            }
        }
    }

    /// Reads up to `most` bytes, fewer only at the stream's end.
    fn take(&mut self, most: usize) -> Result<Vec<u8>> {
        let mut data = Vec::with_capacity(most);
        let mut stream = (&mut *self.source).take(most as u64);
        let read = stream.read_to_end(&mut data);
        read.map_err(|e| self.errors.unreadable(&e))?;
        Ok(data)
    }

    fn skip(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        while self.read(&mut buffer)? > 0 {}
        let padding = std::mem::take(&mut self.padding);
        if self.take(padding)?.len() < padding {
            return Err(self.errors.cut("it ends within a file's padding"));
        }
        Ok(())
    }

    /// Reads a header with a valid checksum; `None` at the archive's end.
    fn header(&mut self) -> Result<Option<Header>> {
        let block = self.take(BLOCK as usize)?;
        if block.len() < BLOCK as usize {
            return Err(match (self.began, block.len()) {
                (false, 0) => self.errors.not_an_archive("it is empty"),
                (false, _) => self
                    .errors
                    .not_an_archive("it is shorter than a tar archive can be"),
                (true, _) => self.errors.cut("the end of the tar archive is missing"),
            });
        }
        if block.iter().all(|b| *b == 0) {
            self.end()?;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // The checksum counts itself as eight spaces.
        let summed = block[..148].iter().chain(&block[156..]).chain(&[b' '; 8]);
        if header.cksum().ok() != Some(summed.map(|b| u32::from(*b)).sum()) {
            return Err(if self.began {
                self.errors.damaged("a header in it has a wrong checksum")
            } else {
                self.errors
                    .not_an_archive("it is not a tar archive, plain or compressed by gzip or zstd")
            });
        }
        self.began = true;
        Ok(Some(header))
    }

    /// Reads the second block of the end and all that follows, so that the checksum of a compressed
    /// stream is verified.
    fn end(&mut self) -> Result<()> {
        let block = self.take(BLOCK as usize)?;
        if block.len() < BLOCK as usize {
            return Err(self.errors.cut("the end of the tar archive is not whole"));
        }
        if block.iter().any(|b| *b != 0) {
            return Err(self.errors.damaged("its end mark is followed by data"));
        }
        if !self.began {
            return Err(self.errors.not_an_archive("it is an empty tar archive"));
        }
        let mut rest = vec![0; CHUNK];
        while self.some(&mut rest)? > 0 {
            crate::interrupt::check()?;
        }
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_MOST {
            return Err(self.errors.damaged("it holds a name that is too long"));
        }
        let data = self.take(usize::try_from(size).unwrap_or(0))?;
        if (data.len() as u64) < size {
            return Err(self.errors.cut("a file in it is not whole"));
        }
        self.padding = padding(size).len();
        Ok(data)
    }

    /// Reads an extension that is one text, ended by NUL.
    fn text(&mut self, size: u64) -> Result<String> {
        let data = self.extension(size)?;
        let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
        Ok(String::from_utf8_lossy(&data[..end]).into_owned())
    }
}

/// Joins a path to a folder and resolves `.` and `..`. Returns `None` for an absolute path and for
/// one that leads out of the archive.
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

/// Returns the header of a file. `name` has at most 100 bytes.
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

/// Returns the zeros after a file of this size.
pub(super) fn padding(size: u64) -> &'static [u8] {
    static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
    let len = (BLOCK - size % BLOCK) % BLOCK;
    &ZEROS[..usize::try_from(len).unwrap_or(0)]
}
