//! Writing a template to one file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::header::{Base, FORMAT, HEADER, Header, Member};
use super::place::{BESIDE, COMPONENTS, DEVICES, DISK, LEVEL, MEMORY, NODE_IMAGE, machine};
use crate::assets::{components, node_image};
use crate::cluster::env::Env;
use crate::cluster::machine::host::{BaseVolumes, Host};
use crate::cluster::saved::state::{self, Saved, SavedDir};
use crate::cluster::saved::{support, templates};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::{self, Digesting, Output};
use crate::interrupt;
use crate::store::Store;
use crate::units::human_bytes;

/// The result of an export.
#[derive(Debug, Serialize)]
pub(crate) struct Exported {
    /// The template's key.
    pub key: String,
    /// The size of the file, in bytes.
    pub bytes: u64,
    /// The file's SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// Writes the template with this key, or a key that begins so, to a file or, for `-`, to standard
/// output. Without a key it is the only one that there is. The file appears whole or not at all.
///
/// # Errors
/// [`Kind::Usage`] for a key or a destination that makes no sense, [`Kind::State`] for a template
/// that no start could use, [`Kind::Assets`] where the images are not in the cache any more.
pub(crate) fn export(
    env: &Env<'_>,
    key: Option<&str>,
    to: &Path,
    images: bool,
) -> Result<Exported> {
    let hint = "kubby template export --file FILE";
    fsutil::check_destination(to, "a template", "template.tar.zst", hint)?;
    let (key, dir) = templates::choose(env.store, key)?;
    let step = env.progress.step(&format!("Export the template {key}"));
    let (header, mut files) = {
        // Under the lock until all files are open: later removals do not matter.
        let _shared = env.lock_shared()?;
        gather(env, &key, &dir, images)?
    };
    // Keys are in it.
    let mut sink = Digesting::new(Output::open(to, 0o600)?);
    let mut total = 0;
    let written = write(&header, &mut files, &mut sink, &mut |done| {
        total = done;
        step.bytes(done, None);
    });
    // What Ctrl-C broke off looks like a full disk from further inside.
    interrupt::check()?;
    written.context(Kind::Internal, || "cannot write the template".into())?;
    let (output, bytes, sha256) = sink.finish();
    output.finish()?;
    step.done(format!(
        "{} ({} before)",
        human_bytes(bytes),
        human_bytes(total)
    ));
    Ok(Exported { key, bytes, sha256 })
}

/// A member's name, its file on this host, and its digest where that is known.
type Source = (String, PathBuf, Option<String>);

/// Returns the members that are the template's own.
fn own_sources(host: &Host<'_>, parts: &[Saved], dir: &SavedDir) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut manifests = Vec::new();
    for (node, saved) in parts.iter().enumerate() {
        let name = |file: &str| format!("{}/{file}", machine(node));
        let [memory, devices] = saved.files(host.target());
        let known = saved.memory.as_ref();
        let digests = known.map(|m| (m.digest.clone(), m.devices_digest.clone()));
        let (of_memory, of_devices) = digests.unwrap_or_default();
        sources.push((name(DISK), host.file(&saved.disk), None));
        sources.push((name(MEMORY), memory, of_memory));
        sources.push((name(DEVICES), devices, of_devices));
        manifests.push(dir.part(node, saved.node()).root.join(state::MANIFEST));
    }
    for path in files_below(&dir.root)? {
        let file = dir.root.join(&path);
        // The manifests are in the header.
        if !manifests.contains(&file) {
            sources.push((member_name(BESIDE, &path), file, None));
        }
    }
    Ok(sources)
}

/// The members of a template: open files, and what they must be.
fn gather(
    env: &Env<'_>,
    key: &str,
    dir: &SavedDir,
    images: bool,
) -> Result<(Header, Vec<(String, File)>)> {
    let Some(parts) = dir.load_all()? else {
        return Err(Error::state(format!("the template {key} is not complete")));
    };
    let saved = &parts[0];
    let host = Host::open(env, &saved.profile.connect)?;
    let info = host.info()?;
    support::require(&info)?;
    support::check_all(&parts, host.target(), &info)?;
    let base = BaseVolumes::of(&saved.profile.assets);
    let base = Base {
        disk: digest(&host.file(&base.disk))?,
        components: digest(&host.file(&base.components))?,
    };
    let mut sources = own_sources(&host, &parts, dir)?;
    if images {
        for (folder, entry) in cached(env.store, saved)? {
            for path in files_below(&entry)? {
                sources.push((member_name(folder, &path), entry.join(&path), None));
            }
        }
    }
    let mut members = Vec::new();
    let mut open = Vec::new();
    for (name, path, known) in sources {
        interrupt::check()?;
        let fail = || format!("cannot read {}", path.display());
        let file = File::open(&path).context(Kind::State, fail)?;
        members.push(Member {
            path: name.clone(),
            size: file.metadata().context(Kind::State, fail)?.len(),
            digest: known.map_or_else(|| digest(&path), Ok)?,
        });
        open.push((name, file));
    }
    let mut parts = parts.into_iter();
    let Some(saved) = parts.next() else {
        return Err(Error::internal("a template has no node"));
    };
    let header = Header {
        format: FORMAT,
        key: key.to_owned(),
        saved,
        others: parts.collect(),
        base,
        members,
    };
    Ok((header, open))
}

/// The cache entries that the template's machine was made of, with the folder of each in the file.
fn cached(store: &Store, saved: &Saved) -> Result<[(&'static str, PathBuf); 2]> {
    let assets = &saved.profile.assets;
    let missing = |what: &str| {
        Error::assets(format!(
            "{what} that the template was made of is not in the cache"
        ))
        .with_hint("kubby template export --without-images leaves them out")
    };
    let image = node_image::load(store.cache(), &assets.node_image)?;
    let image = image.ok_or_else(|| missing("the node image"))?;
    let set = components::load(store.cache(), saved.profile.version()?, &assets.components)?;
    let set = set.ok_or_else(|| missing("the components"))?;
    Ok([
        (NODE_IMAGE, image.folder().to_owned()),
        (COMPONENTS, set.folder().to_owned()),
    ])
}

fn digest(path: &Path) -> Result<String> {
    state::digest_pages(path).context(Kind::State, || format!("cannot read {}", path.display()))
}

fn member_name(folder: &str, path: &Path) -> String {
    format!("{folder}/{}", path.display())
}

/// The files below a folder, as paths relative to it, sorted.
fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let fail = || format!("cannot read {}", root.join(&folder).display());
        for entry in fs::read_dir(root.join(&folder)).context(Kind::State, fail)? {
            let entry = entry.context(Kind::State, fail)?;
            let path = folder.join(entry.file_name());
            if entry.file_type().context(Kind::State, fail)?.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Writes header and members; `report` gets the number of bytes read so far.
fn write(
    header: &Header,
    files: &mut [(String, File)],
    sink: &mut Digesting<Output>,
    report: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut packed = zstd::Encoder::new(sink, LEVEL)?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    packed.multithread(u32::try_from(threads).unwrap_or(1))?;
    packed.include_checksum(true)?;
    let mut archive = tar::Builder::new(packed);
    archive.mode(tar::HeaderMode::Deterministic);
    let text = serde_json::to_vec(header)?;
    let mut first = tar::Header::new_gnu();
    first.set_mode(0o600);
    first.set_size(text.len() as u64);
    archive.append_data(&mut first, HEADER, text.as_slice())?;
    let mut done = 0;
    for (name, file) in files {
        // Holes stay holes.
        archive.append_file(&*name, file)?;
        let read = |meta: fs::Metadata| meta.len().min(meta.blocks() * 512);
        done += file.metadata().map_or(0, read);
        report(done);
    }
    archive.into_inner()?.finish().map(drop)
}
