//! Taking a template from one file. Nothing of it is visible before everything was compared.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Place;
use super::header::{self, Header, Member};
use super::stream::Input;
use crate::assets::{components, node_image};
use crate::cluster::machine::resources::{self, BaseVolumes, Names};
use crate::cluster::saved::garbage::{self, UNFINISHED};
use crate::cluster::saved::load;
use crate::cluster::saved::state::{self, HostMark, Saved, SavedDir, Stamp};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::hypervisor::{self, Hypervisor, Libvirt, Saving as _};
use crate::interrupt;
use crate::kubeconfig;
use crate::progress::{Progress, Step};
use crate::store::{ProfileDir, Store};
use crate::tool::Tool;

/// Room that is left beside what a template takes, in bytes.
const SPARE: u64 = 64 << 20;

/// What to import, and how.
#[derive(Debug, Clone, Copy)]
pub struct ImportOptions<'a> {
    /// A file, or `-` for standard input.
    pub from: &'a Path,
    /// The libvirt connection that is to have it.
    pub connect: Option<&'a str>,
    /// What the file's SHA-256 must be.
    pub sha256: Option<&'a str>,
}

/// What became of an import.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// The template's key.
    pub key: String,
    /// It was not there before.
    pub imported: bool,
}

/// Makes a template of a file that [`super::export()`] has written.
///
/// # Errors
/// [`Kind::Usage`] for a file that is no template; [`Kind::Assets`] for one that is cut, changed,
/// or lacks the images that it needs; [`Kind::Preflight`] for one that this host cannot use, or
/// where there is no room. Nothing of it stays then.
pub fn import(
    store: &Store,
    options: ImportOptions<'_>,
    progress: &dyn Progress,
) -> Result<Imported> {
    let mut input = Input::open(options.from)?;
    let step = progress.step(&format!("Import a template from {}", input.label));
    let label = input.label.clone();
    let imported = read(store, options, &mut input, &step, progress);
    if imported.is_err() {
        // The first error is the one to tell; what this leaves, the next command removes.
        let _ = tidy(store, &hypervisor::default_uri(options.connect));
    }
    // What Ctrl-C broke off looks like a damaged file from further inside.
    interrupt::check()?;
    let imported = imported.map_err(|e| match e.kind() {
        Kind::Assets => e.with_hint(format!(
            "export it again, and compare the SHA-256 of {label}"
        )),
        _ => e,
    })?;
    if imported.imported {
        step.done(&imported.key);
    } else {
        step.skipped(format!("{} is here already", imported.key));
    }
    Ok(imported)
}

/// Removes what nobody needs after an import that failed: volumes, and the pool and folders of a
/// home that has nothing else.
fn tidy(store: &Store, uri: &str) -> Result<()> {
    let hypervisor = Libvirt::open(uri)?;
    let pool = store.pool_name();
    let shared = store.lock_shared(|| {})?;
    if hypervisor.has_pool(&pool)? {
        garbage::sweep(&hypervisor, store, &pool, None)?;
        hypervisor.remove_pool(&pool)?;
    }
    drop(shared);
    let _ = fs::remove_dir(store.templates_dir());
    store.remove_if_empty()
}

fn read(
    store: &Store,
    options: ImportOptions<'_>,
    input: &mut Input,
    step: &Step,
    progress: &dyn Progress,
) -> Result<Imported> {
    let label = input.label.clone();
    let damaged = || format!("the template in {label} is cut or damaged");
    let unpacked =
        zstd::Decoder::new(&mut *input).context(Kind::Internal, || "cannot unpack".into())?;
    let mut archive = tar::Archive::new(unpacked);
    let mut entries = archive.entries().context(Kind::Assets, damaged)?;
    let header = header::read(&mut entries, &label)?;
    let uri = hypervisor::default_uri(options.connect);
    let hypervisor = Libvirt::open(&uri)?;
    let _shared = store.lock_shared(|| {})?;
    let mut import = Import::begin(store, &hypervisor, &uri, header)?;
    if import.is_there()? {
        return Ok(Imported {
            key: import.header.key.clone(),
            imported: false,
        });
    }
    hypervisor.ensure_pool(&import.names.pool, &import.names.target)?;
    import.require_room()?;
    let mut seen = 0;
    for entry in &mut entries {
        interrupt::check()?;
        import.unpack(&mut entry.context(Kind::Assets, damaged)?, step)?;
        seen += 1;
    }
    // The end of the compressed stream has a checksum of the whole.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).context(Kind::Assets, damaged)?;
    drop(rest);
    input.finish(options.sha256)?;
    if seen < import.header.members.len() {
        return Err(Error::new(Kind::Assets, damaged()));
    }
    step.detail("checksums");
    import.verify()?;
    import.provide_base(progress)?;
    let key = import.finish()?;
    Ok(Imported {
        key,
        imported: true,
    })
}

/// An import that is under way. What it has made goes when it is dropped unfinished.
struct Import<'a> {
    store: &'a Store,
    hypervisor: &'a Libvirt,
    header: Header,
    /// The template's manifest as it will be here.
    saved: Saved,
    names: Names,
    partial: PathBuf,
    /// Where unpacked members are.
    places: BTreeMap<String, PathBuf>,
    image: Option<tempfile::TempDir>,
    components: Option<tempfile::TempDir>,
    finished: bool,
}

impl Drop for Import<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fsutil::remove_all(&self.partial);
            for path in self.own_files() {
                let _ = fsutil::remove_all(&path);
            }
        }
    }
}

impl<'a> Import<'a> {
    /// Looks whether the template can be used here.
    fn begin(store: &'a Store, hypervisor: &'a Libvirt, uri: &str, header: Header) -> Result<Self> {
        let host = hypervisor.host()?;
        load::require(&host)?;
        let unusable = |why: String| {
            Error::new(
                Kind::Preflight,
                format!("the template {} does not fit this host: {why}", header.key),
            )
            .with_hint("kubby start makes one that does")
        };
        if let Some(why) = header.saved.host.difference(&HostMark::of(&host)) {
            return Err(unusable(why));
        }
        let made_by = &header.saved.profile.kubby;
        if made_by != env!("CARGO_PKG_VERSION") {
            return Err(unusable(format!("kubby {made_by} made it")));
        }
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let mut saved = Saved {
            disk: format!("template-{id}.disk.qcow2"),
            id,
            ..header.saved.clone()
        };
        // What is the other host's own.
        uri.clone_into(&mut saved.profile.connect);
        saved.profile.kubeconfig = kubeconfig::default_path()?;
        saved.profile.disk.clone_from(&saved.disk);
        let names = Names::new(store, &saved.profile);
        Ok(Import {
            partial: store
                .templates_dir()
                .join(&header.key)
                .with_extension(UNFINISHED),
            store,
            hypervisor,
            header,
            saved,
            names,
            places: BTreeMap::new(),
            image: None,
            components: None,
            finished: false,
        })
    }

    fn dir(&self) -> SavedDir {
        SavedDir::at(self.store.templates_dir().join(&self.header.key))
    }

    /// Whether there is such a template that can be used; one that cannot makes way.
    fn is_there(&self) -> Result<bool> {
        let dir = self.dir();
        let usable = match dir.load() {
            Ok(Some(saved)) => {
                let names = Names::new(self.store, &saved.profile);
                load::check(&saved, &names, &self.hypervisor.host()?).is_ok()
                    && load::check_certificates(&dir.files()).is_ok()
            }
            Ok(None) | Err(_) => false,
        };
        if !usable {
            fsutil::remove_all(&dir.root)?;
        }
        Ok(usable)
    }

    /// The files in the pool that are the template's own.
    fn own_files(&self) -> [PathBuf; 3] {
        let [memory, devices] = self.saved.files(&self.names.target);
        [memory, devices, self.names.target.join(&self.saved.disk)]
    }

    fn require_room(&self) -> Result<()> {
        let memory = self.saved.memory.as_ref().map_or(0, |m| m.allocated);
        let others = self.header.members.iter().filter(|member| {
            !matches!(
                Place::of(&member.path),
                Some(Place::Memory | Place::Devices)
            )
        });
        // A header can say anything.
        let sizes = others.map(|member| member.size);
        let needed = sizes.fold(memory.saturating_add(SPARE), u64::saturating_add);
        let what = "for the template";
        resources::require_room(self.hypervisor, &self.names.pool, needed, what)
    }

    /// Puts a member where it belongs.
    fn unpack<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, step: &Step) -> Result<()> {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        let expected = self.header.members.iter().find(|m| m.path == path);
        let (Some(member), Some(place)) = (expected.cloned(), Place::of(&path)) else {
            return Err(Error::new(
                Kind::Assets,
                format!("the template has a part that its header does not know: {path}"),
            ));
        };
        if !(kind.is_file() || kind.is_gnu_sparse()) || self.places.contains_key(&path) {
            return Err(Error::new(
                Kind::Assets,
                format!("the template's part {path} is no file, or is there twice"),
            ));
        }
        step.detail(&path);
        let to = self.place(&place)?;
        let fail = || format!("cannot write {}", to.display());
        let private = matches!(place, Place::Memory | Place::Devices | Place::Disk);
        let file = if private {
            self.hypervisor.create_state_file(&to)?;
            fs::OpenOptions::new().write(true).open(&to)
        } else {
            let program = entry.header().mode().unwrap_or(0) & 0o100 != 0;
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(if program { 0o755 } else { 0o600 })
                .open(&to)
        };
        let file = file.context(Kind::Internal, fail)?;
        super::pages::copy(entry, &file, member.size, &mut |done| {
            step.bytes(done, Some(member.size));
        })
        .context(Kind::Assets, || {
            format!("cannot unpack the template's {path}")
        })?;
        self.places.insert(path, to);
        Ok(())
    }

    /// The path of a place; its folder is made.
    fn place(&mut self, place: &Place) -> Result<PathBuf> {
        let [memory, devices, disk] = self.own_files();
        let path = match place {
            Place::Memory => return Ok(memory),
            Place::Devices => return Ok(devices),
            Place::Disk => return Ok(disk),
            Place::Beside(path) => self.partial.join(path),
            Place::NodeImage(path) => {
                let cache = self.store.cache();
                into(&mut self.image, || node_image::staging(cache))?
                    .join(&self.saved.profile.assets.node_image)
                    .join(path)
            }
            Place::Components(path) => {
                let cache = self.store.cache();
                into(&mut self.components, || components::staging(cache))?.join(path)
            }
        };
        if let Some(folder) = path.parent() {
            fsutil::create_private_dir(folder)?;
        }
        Ok(path)
    }

    /// Compares every member with what the header says.
    fn verify(&self) -> Result<()> {
        for Member { path, digest, .. } in &self.header.members {
            interrupt::check()?;
            let file = self.places.get(path).map(PathBuf::as_path);
            let found = digest_of(file.unwrap_or(Path::new("")))?;
            if found != *digest {
                return Err(Error::new(
                    Kind::Assets,
                    format!("the template's part {path} is not what it was when it was exported"),
                ));
            }
        }
        Ok(())
    }

    /// Sees to it that the images are in the pool, with the content that the machine knows.
    fn provide_base(&mut self, progress: &dyn Progress) -> Result<()> {
        let cache = self.store.cache();
        let assets = self.saved.profile.assets.clone();
        let version = self.saved.profile.version()?;
        let image = match self.image.take() {
            Some(staged) => node_image::import(cache, &assets.node_image, staged)?,
            None => node_image::load(cache, &assets.node_image)?
                .ok_or_else(|| lacks("the node image", &assets.node_image))?,
        };
        let set = match self.components.take() {
            Some(staged) => components::import(cache, version, &assets.components, staged)?,
            None => components::load(cache, version, &assets.components)?
                .ok_or_else(|| lacks("the components", &assets.components))?,
        };
        self.saved.profile.assets.kubectl.clone_from(&set.kubectl);
        let base = BaseVolumes::of(&self.saved.profile);
        let pool = &self.names.pool;
        resources::upload_base(self.hypervisor, pool, &base, &image, &set, progress)?;
        for (volume, digest) in [
            (&base.disk, &self.header.base.disk),
            (&base.components, &self.header.base.components),
        ] {
            let path = self.names.target.join(volume);
            if digest_of(&path)? != *digest {
                return Err(Error::new(
                    Kind::State,
                    format!(
                        "this host has the volume {volume} with another content than the \
                         template was made with"
                    ),
                )
                .with_hint(
                    "import it where there is no cluster yet: kubby delete --all --purge first",
                ));
            }
        }
        Ok(())
    }

    /// Makes the template visible.
    fn finish(mut self) -> Result<String> {
        let [memory, devices, disk] = self.own_files();
        node_image::check_overlay(&disk)?;
        load::check_certificates(&ProfileDir::at(self.partial.clone())).map_err(|e| {
            Error::new(
                Kind::Preflight,
                format!(
                    "the template {} is too old: {}",
                    self.header.key,
                    e.message()
                ),
            )
            .with_hint("kubby start makes one that is not; date shows whether the clock is right")
        })?;
        let base = self
            .names
            .target
            .join(BaseVolumes::of(&self.saved.profile).disk);
        Tool::new("qemu-img", Kind::Assets)
            .args(["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b"])
            .arg(&base)
            .arg(&disk)
            .run(None)?;
        for path in [&memory, &devices, &disk] {
            File::open(path)
                .and_then(|file| file.sync_all())
                .context(Kind::Internal, || {
                    format!("cannot write {}", path.display())
                })?;
        }
        self.hypervisor.refresh_pool(&self.names.pool)?;
        let stamp = |path: &Path| {
            Stamp::of(path)
                .ok_or_else(|| Error::new(Kind::Internal, format!("{} is gone", path.display())))
        };
        self.saved.disk_stamp = stamp(&disk)?;
        if let Some(saved) = &mut self.saved.memory {
            saved.stamp = stamp(&memory)?;
            saved.devices_stamp = stamp(&devices)?;
            saved.allocated = [&memory, &devices]
                .map(|path| fs::metadata(path).map_or(0, |meta| meta.blocks() * 512))
                .iter()
                .sum();
        }
        fsutil::create_private_dir(&self.partial)?;
        SavedDir::at(self.partial.clone()).save(&self.saved)?;
        let to = self.dir().root;
        fsutil::rename(&self.partial, &to).context(Kind::Internal, || {
            format!("cannot move the template to {}", to.display())
        })?;
        self.finished = true;
        Ok(std::mem::take(&mut self.header.key))
    }
}

/// The folder in an option, which is made where there is none.
fn into(
    folder: &mut Option<tempfile::TempDir>,
    make: impl FnOnce() -> Result<tempfile::TempDir>,
) -> Result<&Path> {
    if folder.is_none() {
        *folder = Some(make()?);
    }
    folder
        .as_ref()
        .map(tempfile::TempDir::path)
        .ok_or_else(|| Error::new(Kind::Internal, "a folder is gone"))
}

fn lacks(what: &str, key: &str) -> Error {
    Error::new(
        Kind::Assets,
        format!("{what} that the template needs ({key}) is neither in the file nor in the cache"),
    )
}

fn digest_of(path: &Path) -> Result<String> {
    state::digest_pages(path).context(Kind::Internal, || format!("cannot read {}", path.display()))
}
