//! The stream in which QEMU saves a machine: where the memory's pages are in it, and how the rest
//! is made into a file of its own.
//!
//! With its capability `mapped-ram` (QEMU 9.0 and newer) QEMU gives each page of memory a fixed
//! place in the file, so the file itself can be mapped as the memory of a new machine. What that
//! machine still has to load is everything else; [`write_devices`] copies it with the memory
//! marked as holding no pages. The format is described in QEMU's `docs/devel/migration`
//! (`main.rst`, `mapped-ram.rst`); all numbers are big-endian.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::domain_xml::MAPPED_MEMORY;

/// `QEVM`, and the version of the stream.
const MAGIC: [u8; 8] = *b"QEVM\0\0\0\x03";
/// The section that begins the memory: its type, the section's number, the name `ram`, instance 0
/// and version 4.
const RAM_SECTION: &[u8] = b"\x03ram\0\0\0\0\0\0\0\x04";
/// The most bytes of the stream before the memory's section.
const PREAMBLE: u64 = 64 * 1024;
/// The names that the machine's memory can have: libvirt's own, and that of a mapped one.
const MEMORY_NAMES: [&str; 2] = ["pc.ram", MAPPED_MEMORY];
/// `RAM_SAVE_FLAG_MEM_SIZE`, in the low bits of the memory's total.
const FLAG_MEM_SIZE: u64 = 0x04;
const PAGE_SIZE: u64 = 4096;

/// The place of the machine's memory in a saved stream; offsets and lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The offset of the name of the memory's block.
    name_at: u64,
    /// The offset of the bitmap of the pages.
    bitmap: u64,
    /// The bitmap's length.
    bitmap_length: u64,
    /// The offset of the first page.
    pub pages: u64,
    /// The length of the memory.
    pub length: u64,
    /// The length of the whole file.
    pub file: u64,
}

/// Finds the memory in a saved stream.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] with the reason for a stream that QEMU did not write so, is cut,
/// or has another format; others from reading.
pub(crate) fn layout(stream: &mut (impl Read + Seek)) -> io::Result<Layout> {
    let file = stream.seek(SeekFrom::End(0))?;
    let mut head = Vec::new();
    stream.rewind()?;
    stream.by_ref().take(PREAMBLE).read_to_end(&mut head)?;
    if !head.starts_with(&MAGIC) {
        return Err(invalid("it does not begin as QEMU's saved streams do"));
    }
    let mut windows = head.windows(RAM_SECTION.len());
    let section = windows.position(|w| w == RAM_SECTION);
    let section = section.ok_or_else(|| invalid("it holds no memory"))?;
    let mut rest = &head[section + RAM_SECTION.len()..];
    let at = |rest: &[u8]| (head.len() - rest.len()) as u64;
    let total = u64::from_be_bytes(take(&mut rest)?);
    if total & (PAGE_SIZE - 1) != FLAG_MEM_SIZE {
        return Err(invalid("its memory begins in another way"));
    }
    // The machine's memory comes first, so one block is all that has to be understood.
    // Both names that it can have are of one length.
    let [name_length] = take(&mut rest)?;
    let name_at = at(rest);
    let name: [u8; MAPPED_MEMORY.len()] = take(&mut rest)?;
    let is_memory = |known: &&str| known.as_bytes() == name;
    if usize::from(name_length) != name.len() || !MEMORY_NAMES.iter().any(is_memory) {
        return Err(invalid(
            "its first memory block is not the machine's memory",
        ));
    }
    let length = u64::from_be_bytes(take(&mut rest)?);
    if u32::from_be_bytes(take(&mut rest)?) != 1 {
        return Err(invalid("its memory's pages have no fixed places"));
    }
    let mut number = || Ok::<_, io::Error>(u64::from_be_bytes(take(&mut rest)?));
    let (page, bitmap, pages) = (number()?, number()?, number()?);
    let bitmap_length = (length / PAGE_SIZE).div_ceil(64) * 8;
    let header_end = at(rest);
    let ends = bitmap
        .checked_add(bitmap_length)
        .zip(pages.checked_add(length));
    // The devices come after the memory, so the file does not end with it.
    let orderly = ends.is_some_and(|(bitmap_end, pages_end)| {
        bitmap >= header_end && bitmap_end <= pages && pages_end < file
    });
    if page != PAGE_SIZE || length == 0 || length % PAGE_SIZE != 0 || !orderly {
        return Err(invalid("its memory is not within it: it is cut or damaged"));
    }
    if pages % PAGE_SIZE != 0 {
        return Err(invalid("its memory cannot be mapped"));
    }
    Ok(Layout {
        name_at,
        bitmap,
        bitmap_length,
        pages,
        length,
        file,
    })
}

/// Copies all but the machine's memory, as a sparse file of the same layout, for a machine whose
/// memory is there already under the name [`MAPPED_MEMORY`].
///
/// # Errors
/// Those of reading and writing.
pub(crate) fn write_devices(
    stream: &mut (impl Read + Seek),
    layout: &Layout,
    to: &mut (impl Write + Seek),
) -> io::Result<()> {
    stream.seek(SeekFrom::Start(0))?;
    to.seek(SeekFrom::Start(0))?;
    copy(&mut stream.by_ref().take(layout.bitmap), to)?;
    to.seek(SeekFrom::Start(layout.name_at))?;
    to.write_all(MAPPED_MEMORY.as_bytes())?;
    // No page is marked as present: the bitmap and the pages stay a hole, which reads as zeros.
    let after = layout.pages + layout.length;
    stream.seek(SeekFrom::Start(after))?;
    to.seek(SeekFrom::Start(after))?;
    copy(stream, to)?;
    to.flush()
}

/// Copies, leaving holes where whole pages are zero.
fn copy(from: &mut impl Read, to: &mut (impl Write + Seek)) -> io::Result<()> {
    const ONCE: u64 = 64 * PAGE_SIZE;
    let mut buffer = Vec::new();
    let zeros = [0; ONCE as usize];
    let mut hole = 0;
    loop {
        buffer.clear();
        let n = from.by_ref().take(ONCE).read_to_end(&mut buffer)?;
        if n == 0 {
            break;
        }
        if buffer[..] == zeros[..n] {
            hole += n as i64;
            continue;
        }
        if hole > 0 {
            to.seek(SeekFrom::Current(hole))?;
            hole = 0;
        }
        to.write_all(&buffer)?;
    }
    // A hole at the end would leave the file short.
    if hole > 0 {
        to.seek(SeekFrom::Current(hole - 1))?;
        to.write_all(&[0])?;
    }
    Ok(())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Takes the next bytes off a slice.
fn take<const N: usize>(rest: &mut &[u8]) -> io::Result<[u8; N]> {
    let (taken, left) = rest
        .split_first_chunk()
        .ok_or_else(|| invalid("it is cut"))?;
    *rest = left;
    Ok(*taken)
}

/// Returns a stream as QEMU 10 writes it, with one more block and two devices' worth of bytes, for tests:
/// the memory has this length and begins at this offset.
#[cfg(test)]
pub(crate) fn example(pages: u64, length: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(b"\x07\0\0\0\x0bpc-q35-10.0\x05\x1aconfiguration/capabilities");
    bytes.extend(b"\0\0\0\x01\0\0\0\x01\nmapped-ram\x01\0\0\0\x03");
    bytes.extend(RAM_SECTION);
    bytes.extend((length + 0x2_0000 + FLAG_MEM_SIZE).to_be_bytes());
    bytes.extend(b"\x06pc.ram");
    bytes.extend(length.to_be_bytes());
    bytes.extend(1u32.to_be_bytes());
    bytes.extend(PAGE_SIZE.to_be_bytes());
    let bitmap = bytes.len() as u64 + 16;
    bytes.extend(bitmap.to_be_bytes());
    bytes.extend(pages.to_be_bytes());
    bytes.extend(vec![0xff; ((length / PAGE_SIZE).div_ceil(64) * 8) as usize]);
    bytes.resize((pages + length) as usize, 0xaa);
    bytes.extend(b"\x07pc.bios rest of the stream");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const PAGES: u64 = 0x10_0000;
    const LENGTH: u64 = 0x20_0000;

    fn stream() -> Vec<u8> {
        example(PAGES, LENGTH)
    }

    #[test]
    fn the_memory_is_found() {
        let bytes = stream();
        let found = layout(&mut Cursor::new(&bytes)).unwrap();
        assert_eq!((found.pages, found.length), (PAGES, LENGTH));
        assert_eq!(found.file, bytes.len() as u64);
    }

    #[test]
    fn the_devices_are_all_but_the_memory() {
        let bytes = stream();
        let found = layout(&mut Cursor::new(&bytes)).unwrap();
        let mut devices = Cursor::new(Vec::new());
        write_devices(&mut Cursor::new(&bytes), &found, &mut devices).unwrap();
        let devices = devices.into_inner();
        assert_eq!(devices.len(), bytes.len());
        let again = layout(&mut Cursor::new(&devices)).unwrap();
        assert_eq!(again, found, "a machine that was mapped can be saved again");
        let end = (PAGES + LENGTH) as usize;
        assert!(devices[found.bitmap as usize..end].iter().all(|b| *b == 0));
        assert_eq!(devices[end..], bytes[end..]);
        let mut named = bytes[..found.bitmap as usize].to_vec();
        let at = found.name_at as usize;
        named[at..at + 6].copy_from_slice(b"kb.ram");
        assert_eq!(devices[..found.bitmap as usize], named);
    }

    #[test]
    fn what_is_cut_or_something_else_is_refused_with_its_reason() {
        let whole = stream();
        let refused = |bytes: &[u8], words: &str| {
            let e = layout(&mut Cursor::new(bytes)).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidData);
            assert!(e.to_string().contains(words), "{e}");
        };
        refused(b"", "does not begin");
        refused(b"LibvirtQemudSave", "does not begin");
        refused(&whole[..40], "no memory");
        refused(&whole[..150], "cut");
        refused(&whole[..(PAGES + LENGTH - 1) as usize], "cut");
        refused(&whole[..(PAGES + LENGTH) as usize], "cut");
        let changed = |from: &[u8], to: &[u8]| {
            let at = whole.windows(from.len()).position(|w| w == from).unwrap();
            let mut bytes = whole.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            bytes
        };
        refused(&changed(b"pc.ram", b"pc.rom"), "not the machine's memory");
        let far = (1u64 << 40).to_be_bytes();
        refused(&changed(&LENGTH.to_be_bytes(), &far), "damaged");
        refused(
            &changed(&PAGES.to_be_bytes(), &u64::MAX.to_be_bytes()),
            "damaged",
        );
        refused(
            &changed(&PAGES.to_be_bytes(), &1u64.to_be_bytes()),
            "damaged",
        );
        // A bitmap that begins within the header that says where it is.
        let bitmap = layout(&mut Cursor::new(&whole)).unwrap().bitmap;
        refused(
            &changed(&bitmap.to_be_bytes(), &(bitmap - 1).to_be_bytes()),
            "damaged",
        );
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = stream();
        for at in 0..200 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole[..4096].to_vec();
                bytes[at] = value;
                let _ = layout(&mut Cursor::new(&bytes));
            }
        }
    }
}
