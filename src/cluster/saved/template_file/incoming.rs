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
    /// The manifests of the template's nodes as they will be here.
    parts: Vec<Saved>,
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
        let parts = parts_here(host, &header)?;
        let dir = host.store().templates_dir().join(&header.key);
        let partial = dir.with_extension(UNFINISHED);
        let own = parts.iter().flat_map(|saved| own_files(host, saved));
        Ok(Import {
            unfinished: Unfinished([partial.clone()].into_iter().chain(own).collect()),
            partial,
            host,
            header,
            parts,
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
        let usable = match dir.load_all() {
            Ok(Some(parts)) => {
                support::check_all(&parts, self.host.target(), &self.host.info()?).is_ok()
                    && support::check_certificates(&dir.files()).is_ok()
            }
            Ok(None) | Err(_) => false,
        };
        if !usable {
            fsutil::remove_all(&dir.root)?;
        }
        Ok(usable)
    }

    /// Checks that the pool has room for the template.
    pub(super) fn require_room(&self) -> Result<()> {
        let memories = self.parts.iter().flat_map(|saved| &saved.memory);
        let memories = memories.map(|memory| memory.allocated);
        let others = self.header.members.iter().filter(|member| {
            !matches!(
                Place::of(&member.path),
                Some(Place::Memory(_) | Place::Devices(_))
            )
        });
        // A header can say anything.
        let sizes = others.map(|member| member.size);
        let needed = memories.chain(sizes).fold(SPARE, u64::saturating_add);
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
        let private = matches!(place, Place::Memory(_) | Place::Devices(_) | Place::Disk(_));
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
        let own =
            |node: &usize, file: usize| own_files(self.host, &self.parts[*node])[file].clone();
        let path = match place {
            Place::Memory(node) => return Ok(own(node, 0)),
            Place::Devices(node) => return Ok(own(node, 1)),
            Place::Disk(node) => return Ok(own(node, 2)),
            Place::Beside(path) => self.partial.join(path),
            Place::NodeImage(path) => {
                let cache = self.host.store().cache();
                let staged = match &self.image {
                    Some(staged) => staged,
                    None => self.image.insert(node_image::staging(cache)?),
                };
                let key = &self.header.saved.profile.assets.node_image;
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
        let assets = self.header.saved.profile.assets.clone();
        let version = self.header.saved.profile.version()?;
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
        for saved in &mut self.parts {
            saved.profile.assets.kubectl.clone_from(&set.kubectl);
        }
        let base = BaseVolumes::of(&assets);
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
        for saved in &self.parts {
            node_image::check_overlay(&self.host.file(&saved.disk))?;
        }
        support::check_certificates(&ProfileDir::at(self.partial.clone())).map_err(|e| {
            Error::preflight(format!(
                "the template {} is too old: {}",
                self.header.key,
                e.message()
            ))
            .with_hint("kubby start makes one that is not; date shows whether the clock is right")
        })?;
        let base = BaseVolumes::of(&self.header.saved.profile.assets);
        let base = self.host.file(&base.disk);
        for saved in &self.parts {
            settle(self.host, saved, &base)?;
        }
        self.host.libvirt().refresh_pool(self.host.pool())?;
        for saved in &mut self.parts {
            record(self.host, saved)?;
        }
        SavedDir::at(self.partial.clone()).save_all(&self.parts)?;
        let to = self.dir().root;
        fsutil::rename(&self.partial, &to).context(Kind::Internal, || {
            format!("cannot move the template to {}", to.display())
        })?;
        self.unfinished.0.clear();
        Ok(std::mem::take(&mut self.header.key))
    }
}

/// Returns the manifests of a template's nodes as they will be on this host.
fn parts_here(host: &Host<'_>, header: &Header) -> Result<Vec<Saved>> {
    let kubeconfig = kubeconfig::default_path()?;
    let mut parts: Vec<Saved> = header.parts().cloned().collect();
    for saved in &mut parts {
        saved.id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        saved.disk = format!("template-{}.disk.qcow2", saved.id);
        host.libvirt().uri().clone_into(&mut saved.profile.connect);
        saved.profile.kubeconfig.clone_from(&kubeconfig);
        saved.profile.first_mut().disk.clone_from(&saved.disk);
    }
    let disks: Vec<String> = parts.iter().map(|saved| saved.disk.clone()).collect();
    for (node, disk) in parts[0].profile.nodes.iter_mut().zip(disks) {
        node.disk = disk;
    }
    Ok(parts)
}

/// Returns the files of a template's node in the pool: memory, devices and disk.
fn own_files(host: &Host<'_>, saved: &Saved) -> [PathBuf; 3] {
    let [memory, devices] = saved.files(host.target());
    [memory, devices, host.file(&saved.disk)]
}

/// Brings a node's disk over this host's node image, and its files to the disk.
fn settle(host: &Host<'_>, saved: &Saved, base: &Path) -> Result<()> {
    let [memory, devices, disk] = own_files(host, saved);
    Tool::new("qemu-img", Kind::Assets)
        .args(["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b"])
        .arg(base)
        .arg(&disk)
        .run(None)?;
    for path in [&memory, &devices, &disk] {
        File::open(path)
            .and_then(|file| file.sync_all())
            .context(Kind::Internal, || {
                format!("cannot write {}", path.display())
            })?;
    }
    Ok(())
}

/// Records a node's files in its manifest.
fn record(host: &Host<'_>, saved: &mut Saved) -> Result<()> {
    let [memory, devices, disk] = own_files(host, saved);
    saved.disk_stamp = Stamp::require(&disk)?;
    if let Some(of) = &mut saved.memory {
        of.stamp = Stamp::require(&memory)?;
        of.devices_stamp = Stamp::require(&devices)?;
        of.allocated = state::allocated(&memory) + state::allocated(&devices);
    }
    Ok(())
}

fn lacks(what: &str, key: &str) -> Error {
    Error::assets(format!(
        "{what} that the template needs ({key}) is neither in the file nor in the cache"
    ))
}

fn digest_of(path: &Path) -> Result<String> {
    state::digest_pages(path).context(Kind::Internal, || format!("cannot read {}", path.display()))
}
