//! A template that is being imported: its members in their places, compared before they become visible.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::header::{Header, Member};
use super::pages;
use super::place::Place;
use crate::assets::{components, node_image};
use crate::cluster::machine::host::{BaseVolumes, Host};
use crate::cluster::saved::garbage::{UNFINISHED, Unfinished};
use crate::cluster::saved::state::{self, HostMark, Saved, SavedDir, Stamp};
use crate::cluster::saved::support;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::interrupt;
use crate::kubeconfig;
use crate::progress::{Progress, Step};
use crate::store::ProfileDir;
use crate::tool::Tool;

/// The room that stays free beside a template, in bytes.
const SPARE: u64 = 64 << 20;

/// An import in progress. Whatever it has made is removed if it is dropped unfinished.
pub(super) struct Import<'a> {
    host: &'a Host<'a>,
    pub(super) header: Header,
    /// The template's manifest as it will be here.
    saved: Saved,
    partial: PathBuf,
    /// The paths of unpacked members.
    places: BTreeMap<String, PathBuf>,
    image: Option<tempfile::TempDir>,
    components: Option<tempfile::TempDir>,
    unfinished: Unfinished,
}

impl<'a> Import<'a> {
    /// Checks that the template can be used here.
    pub(super) fn begin(host: &'a Host<'a>, header: Header) -> Result<Self> {
        let info = host.info()?;
        support::require(&info)?;
        let unusable = |why: String| {
            Error::preflight(format!(
                "the template {} does not fit this host: {why}",
                header.key
            ))
            .with_hint("kubby start makes one that does")
        };
        if let Some(why) = header.saved.host.difference(&HostMark::of(&info)) {
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
        // These belong to the other host.
        host.libvirt().uri().clone_into(&mut saved.profile.connect);
        saved.profile.kubeconfig = kubeconfig::default_path()?;
        saved.profile.first_mut().disk.clone_from(&saved.disk);
        let dir = host.store().templates_dir().join(&header.key);
        let partial = dir.with_extension(UNFINISHED);
        let mut unfinished = vec![partial.clone(), host.file(&saved.disk)];
        unfinished.extend(saved.files(host.target()));
        Ok(Import {
            partial,
            unfinished: Unfinished(unfinished),
            host,
            header,
            saved,
            places: BTreeMap::new(),
            image: None,
            components: None,
        })
    }

    fn dir(&self) -> SavedDir {
        SavedDir::at(self.host.store().templates_dir().join(&self.header.key))
    }

    /// Returns whether there is such a template that can be used; removes one that cannot.
    pub(super) fn is_there(&self) -> Result<bool> {
        let dir = self.dir();
        let usable = match dir.load() {
            Ok(Some(saved)) => {
                support::check(&saved, self.host.target(), &self.host.info()?).is_ok()
                    && support::check_certificates(&dir.files()).is_ok()
            }
            Ok(None) | Err(_) => false,
        };
        if !usable {
            fsutil::remove_all(&dir.root)?;
        }
        Ok(usable)
    }

    /// Returns the template's own files in the pool.
    fn own_files(&self) -> [PathBuf; 3] {
        let [memory, devices] = self.saved.files(self.host.target());
        [memory, devices, self.host.file(&self.saved.disk)]
    }

    /// Checks that the pool has room for the template.
    pub(super) fn require_room(&self) -> Result<()> {
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
        self.host.require_room(needed, "for the template")
    }

    /// Unpacks a member to its place.
    pub(super) fn unpack<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        step: &Step,
    ) -> Result<()> {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        let expected = self.header.members.iter().find(|m| m.path == path);
        let (Some(member), Some(place)) = (expected.cloned(), Place::of(&path)) else {
            return Err(Error::assets(format!(
                "the template has a part that its header does not know: {path}"
            )));
        };
        if !(kind.is_file() || kind.is_gnu_sparse()) || self.places.contains_key(&path) {
            return Err(Error::assets(format!(
                "the template's part {path} is not a file, or occurs twice"
            )));
        }
        step.detail(&path);
        let to = self.place(&place)?;
        let fail = || format!("cannot write {}", to.display());
        let private = matches!(place, Place::Memory | Place::Devices | Place::Disk);
        let file = if private {
            self.host.libvirt().create_state_file(&to)?;
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
        pages::copy(entry, &file, member.size, &mut |done| {
            step.bytes(done, Some(member.size));
        })
        .context(Kind::Assets, || {
            format!("cannot unpack the template's {path}")
        })?;
        self.places.insert(path, to);
        Ok(())
    }

    /// Returns the path of a place, after creating its folder.
    fn place(&mut self, place: &Place) -> Result<PathBuf> {
        let [memory, devices, disk] = self.own_files();
        let path = match place {
            Place::Memory => return Ok(memory),
            Place::Devices => return Ok(devices),
            Place::Disk => return Ok(disk),
            Place::Beside(path) => self.partial.join(path),
            Place::NodeImage(path) => {
                let cache = self.host.store().cache();
                let staged = match &self.image {
                    Some(staged) => staged,
                    None => self.image.insert(node_image::staging(cache)?),
                };
                let key = &self.saved.profile.assets.node_image;
                staged.path().join(key).join(path)
            }
            Place::Components(path) => {
                let cache = self.host.store().cache();
                let staged = match &self.components {
                    Some(staged) => staged,
                    None => self.components.insert(components::staging(cache)?),
                };
                staged.path().join(path)
            }
        };
        if let Some(folder) = path.parent() {
            fsutil::create_private_dir(folder)?;
        }
        Ok(path)
    }

    /// Compares every member with the header.
    pub(super) fn verify(&self) -> Result<()> {
        for Member { path, digest, .. } in &self.header.members {
            interrupt::check()?;
            let file = self.places.get(path).map(PathBuf::as_path);
            let found = digest_of(file.unwrap_or(Path::new("")))?;
            if found != *digest {
                return Err(Error::assets(format!(
                    "the template's part {path} is not what it was when it was exported"
                )));
            }
        }
        Ok(())
    }

    /// Makes sure that the images are in the pool, with the content that the machine knows.
    pub(super) fn provide_base(&mut self, progress: &dyn Progress) -> Result<()> {
        let cache = self.host.store().cache();
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
        let base = BaseVolumes::of(&self.saved.profile.assets);
        self.host.upload_base(&base, &image, &set, progress)?;
        for (volume, digest) in [
            (&base.disk, &self.header.base.disk),
            (&base.components, &self.header.base.components),
        ] {
            let path = self.host.file(volume);
            if digest_of(&path)? != *digest {
                return Err(Error::state(format!(
                    "this host has the volume {volume} with another content than the \
                         template was made with"
                ))
                .with_hint(
                    "import it where there is no cluster yet: kubby delete --all --purge first",
                ));
            }
        }
        Ok(())
    }

    /// Makes the template visible.
    pub(super) fn finish(mut self) -> Result<String> {
        let [memory, devices, disk] = self.own_files();
        node_image::check_overlay(&disk)?;
        support::check_certificates(&ProfileDir::at(self.partial.clone())).map_err(|e| {
            Error::preflight(format!(
                "the template {} is too old: {}",
                self.header.key,
                e.message()
            ))
            .with_hint("kubby start makes one that is not; date shows whether the clock is right")
        })?;
        let base = self
            .host
            .file(&BaseVolumes::of(&self.saved.profile.assets).disk);
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
        self.host.libvirt().refresh_pool(self.host.pool())?;
        self.saved.disk_stamp = Stamp::require(&disk)?;
        if let Some(saved) = &mut self.saved.memory {
            saved.stamp = Stamp::require(&memory)?;
            saved.devices_stamp = Stamp::require(&devices)?;
            saved.allocated = state::allocated(&memory) + state::allocated(&devices);
        }
        fsutil::create_private_dir(&self.partial)?;
        SavedDir::at(self.partial.clone()).save(&self.saved)?;
        let to = self.dir().root;
        fsutil::rename(&self.partial, &to).context(Kind::Internal, || {
            format!("cannot move the template to {}", to.display())
        })?;
        self.unfinished.0.clear();
        Ok(std::mem::take(&mut self.header.key))
    }
}

fn lacks(what: &str, key: &str) -> Error {
    Error::assets(format!(
        "{what} that the template needs ({key}) is neither in the file nor in the cache"
    ))
}

fn digest_of(path: &Path) -> Result<String> {
    state::digest_pages(path).context(Kind::Internal, || format!("cannot read {}", path.display()))
}
