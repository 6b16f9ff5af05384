//! Saved states: a cluster's machine as it was at one moment, kept in files.
//!
//! A saved state is a folder of kubby's (the manifest with the profile, keys and certificates that
//! were in force) and files in the storage pool: the disk's frozen layer and, of a machine that
//! ran, its memory and its devices. Templates, snapshots and suspended clusters are all saved
//! states; they differ in where the folder is and in what becomes of the machine afterwards.
//!
//! A cluster of several nodes has one saved state for each of them: the first node's folder holds the
//! others' in `nodes`, as a profile's folder does. The first one's profile has all nodes, and its manifest
//! is written last.

mod digest;
mod stamp;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::hypervisor::HostInfo;
use crate::profile::{self, FILE_VERSION, Profile};
use crate::store::ProfileDir;

pub(crate) use digest::{PAGE, is_zero, pages as digest_pages};
pub(crate) use stamp::Stamp;

/// The version of the manifest that this kubby writes and the only one that it reads.
pub(crate) const FORMAT: u32 = 1;

/// The manifest's file name in the folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The manifest of a saved state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    /// [`FORMAT`].
    pub format: u32,
    /// Names the files in the pool.
    pub id: String,
    /// The time at which it was saved, seconds since 1970.
    pub created: i64,
    /// The host that saved it; another one may not be able to read it.
    pub host: HostMark,
    /// The machine's memory; nothing for a cluster that was stopped.
    pub memory: Option<Memory>,
    /// The volume with the disk as it was; frozen unless the state is a suspended cluster's.
    pub disk: String,
    /// The stamp of the disk's file.
    pub disk_stamp: Stamp,
    /// The profile as it was; in manifests of earlier kubbys of an earlier version.
    #[serde(deserialize_with = "Profile::deserialize_any_version")]
    pub profile: Profile,
}

/// A machine's memory and devices in the pool's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    /// The place of the first page in the memory's file, in bytes.
    pub offset: u64,
    /// The length of the memory, in bytes.
    pub length: u64,
    /// The stamp of the memory's file when it was complete.
    pub stamp: Stamp,
    /// The digest of the memory's file, see [`digest_pages`]; absent where the state is
    /// loaded at once.
    pub digest: Option<String>,
    /// The stamp of the devices' file when it was complete.
    pub devices_stamp: Stamp,
    /// The digest of the devices' file.
    pub devices_digest: Option<String>,
    /// The bytes that both files take on the disk.
    pub allocated: u64,
}

/// The properties of a host that a machine's state depends on beside its definition: QEMU loads only
/// states of the same QEMU, and a guest has detected the processor that it runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostMark {
    /// QEMU's version.
    pub qemu: String,
    /// libvirt's version.
    pub libvirt: String,
    /// The processor's model and features, as a digest.
    pub cpu: String,
}

impl HostMark {
    /// The mark of this host.
    pub(crate) fn of(host: &HostInfo) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        HostMark {
            qemu: host.qemu_version.to_string(),
            libvirt: host.libvirt_version.to_string(),
            cpu: digest::text(&processor(&cpuinfo)),
        }
    }

    /// Returns the difference from another mark, for people.
    pub(crate) fn difference(&self, other: &HostMark) -> Option<String> {
        let (now, then) = (other, self);
        if then.qemu != now.qemu {
            return Some(format!("QEMU was {} and is {}", then.qemu, now.qemu));
        }
        if then.libvirt != now.libvirt {
            return Some(format!(
                "libvirt was {} and is {}",
                then.libvirt, now.libvirt
            ));
        }
        (then.cpu != now.cpu).then(|| "the host's processor is another one".into())
    }
}

/// Returns the lines of `/proc/cpuinfo` that distinguish processors.
fn processor(cpuinfo: &str) -> String {
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    let telling = [
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "stepping",
        "flags",
    ];
    let lines = first.lines().filter(|line| {
        line.split_once(':')
            .is_some_and(|(key, _)| telling.contains(&key.trim()))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The folder of a saved state. It has the layout of a profile's folder, so that what works on
/// one's keys works on the other's.
#[derive(Debug, Clone)]
pub(crate) struct SavedDir {
    /// The folder.
    pub root: PathBuf,
}

impl SavedDir {
    /// A folder that may not be there.
    pub(crate) fn at(root: PathBuf) -> Self {
        SavedDir { root }
    }

    /// Its files as a profile's.
    pub(crate) fn files(&self) -> ProfileDir {
        ProfileDir::at(self.root.clone())
    }

    /// Returns the folder of another node of the same cluster.
    fn node(&self, name: &str) -> SavedDir {
        SavedDir::at(self.files().node(name).root().to_owned())
    }

    /// Returns the folder of the saved state of a node, which is given with its place in the cluster.
    pub(crate) fn part(&self, index: usize, node: &str) -> SavedDir {
        match index {
            0 => self.clone(),
            _ => self.node(node),
        }
    }

    /// Returns this folder and those of the other nodes.
    pub(crate) fn with_nodes(self) -> Vec<SavedDir> {
        let others = std::fs::read_dir(self.root.join("nodes"));
        let others = others.into_iter().flatten().flatten();
        let others: Vec<_> = others.map(|entry| SavedDir::at(entry.path())).collect();
        [self].into_iter().chain(others).collect()
    }

    /// Reads the manifests of all nodes, the first one's first; nothing where there is no saved state.
    ///
    /// # Errors
    /// As [`SavedDir::load`], and [`Kind::State`] where that of a node is missing.
    pub(crate) fn load_all(&self) -> Result<Option<Vec<Saved>>> {
        let Some(first) = self.load()? else {
            return Ok(None);
        };
        let others = first.profile.nodes[1..].iter().map(|node| {
            let saved = self.node(&node.name).load()?;
            saved.ok_or_else(|| {
                Error::state(format!(
                    "the saved state {} lacks the node `{}`",
                    self.root.display(),
                    node.name
                ))
            })
        });
        let others = others.collect::<Result<Vec<_>>>()?;
        Ok(Some([first].into_iter().chain(others).collect()))
    }

    /// Reads the manifest of the first node; nothing where there is no saved state.
    ///
    /// # Errors
    /// [`Kind::State`] for a manifest that is damaged or of another version.
    pub(crate) fn load(&self) -> Result<Option<Saved>> {
        let path = self.root.join(MANIFEST);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                return Err(e).context(Kind::State, || format!("cannot read {}", path.display()));
            }
        };
        #[derive(Deserialize)]
        struct Version {
            format: u32,
            profile: Option<ProfileVersion>,
        }
        #[derive(Deserialize)]
        struct ProfileVersion {
            version: u32,
        }
        let damaged = |e: serde_json::Error| {
            Error::state(format!(
                "the saved state's manifest {} is damaged",
                path.display()
            ))
            .with_source(e)
        };
        let Version { format, profile } = serde_json::from_str(&text).map_err(damaged)?;
        if format != FORMAT {
            return Err(Error::state(format!(
                "{} was written by another kubby (format {format}; this one knows {FORMAT})",
                path.display()
            )));
        }
        if let Some(profile) = profile
            && profile.version > FILE_VERSION
        {
            return Err(Error::state(format!(
                "{} {}",
                path.display(),
                profile::newer(profile.version)
            )));
        }
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    /// Writes the manifests of all nodes; the first one's is the last thing that makes the whole complete.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file system refuses.
    pub(crate) fn save_all(&self, parts: &[Saved]) -> Result<()> {
        let mut last_first = parts.iter().enumerate().rev();
        last_first.try_for_each(|(index, saved)| {
            let dir = self.part(index, saved.node());
            fsutil::create_private_dir(&dir.root)?;
            dir.save(saved)
        })
    }

    /// Writes the manifest, the last thing that makes a saved state whole.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file system refuses.
    pub(crate) fn save(&self, saved: &Saved) -> Result<()> {
        let text = serde_json::to_string_pretty(saved)
            .context(Kind::Internal, || "cannot render a manifest".into())?;
        fsutil::write_atomic(&self.root.join(MANIFEST), text.as_bytes(), 0o600)
    }
}

/// Returns the bytes that a file takes on the disk.
pub(crate) fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.blocks() * 512)
}

/// The names of the memory's and the devices' file of a saved state in the pool's folder.
pub(crate) fn file_names(id: &str) -> [String; 2] {
    [format!("state-{id}.mem"), format!("state-{id}.dev")]
}

/// The id in the name of a saved state's file; nothing for other names.
pub(crate) fn id_of(file: &str) -> Option<&str> {
    let name = file.strip_prefix("state-")?;
    name.strip_suffix(".mem").or(name.strip_suffix(".dev"))
}

/// Returns the bytes that the memory of machines takes on the disk; nothing where none of them ran.
pub(crate) fn memory_of(parts: &[Saved]) -> Option<u64> {
    let sizes = parts.iter().flat_map(|saved| &saved.memory);
    sizes.map(|memory| memory.allocated).reduce(|a, b| a + b)
}

impl Saved {
    /// Returns the node that was saved.
    pub(crate) fn node(&self) -> &str {
        &self.profile.first().name
    }

    /// The memory's and the devices' file.
    pub(crate) fn files(&self, pool: &Path) -> [PathBuf; 2] {
        file_names(&self.id).map(|name| pool.join(name))
    }

    /// Checks that the files are as they were saved. Who only wants to look pays little: files
    /// that were not touched are not read. A touched one is read in full and compared.
    ///
    /// # Errors
    /// [`Kind::State`] that says which file is missing, cut or changed.
    pub(crate) fn check(&self, pool: &Path) -> Result<()> {
        let changed = |path: &Path, what: &str| {
            Error::state(format!("the saved state's file {} {what}", path.display()))
        };
        let disk = pool.join(&self.disk);
        match Stamp::of(&disk) {
            None => return Err(changed(&disk, "is missing")),
            Some(now) if !now.same_content(&self.disk_stamp) => {
                return Err(changed(&disk, "was changed since"));
            }
            Some(_) => {}
        }
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        let [pages, devices] = self.files(pool);
        for (path, stamp, digest) in [
            (&pages, &memory.stamp, &memory.digest),
            (&devices, &memory.devices_stamp, &memory.devices_digest),
        ] {
            match Stamp::of(path) {
                None => return Err(changed(path, "is missing")),
                Some(now) if now.size != stamp.size => return Err(changed(path, "is cut")),
                Some(now) if now == *stamp => {}
                Some(_) => {
                    let now = digest_pages(path)
                        .context(Kind::State, || format!("cannot read {}", path.display()))?;
                    if Some(now) != *digest {
                        return Err(changed(path, "was changed since"));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
