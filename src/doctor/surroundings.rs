//! What several checks look at, asked once: profiles, connections, kubeconfig files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cluster::saved::garbage;
use crate::error::{Error, Result};
use crate::hypervisor::{self, HostInfo, Hypervisor, Libvirt};
use crate::kubeconfig;
use crate::profile::{Profile, ProfileName};
use crate::store::{ProfileDir, Store};

/// A profile's folder with what is in it.
pub(super) struct Seen {
    pub(super) name: ProfileName,
    pub(super) dir: ProfileDir,
    /// Nothing where there is a folder without a profile file.
    pub(super) profile: Result<Option<Profile>>,
    /// Another kubby works on it now, so that what is there need not be whole.
    pub(super) busy: bool,
}

/// libvirt that answers, and the host it runs on.
pub(super) struct Link {
    pub(super) libvirt: Libvirt,
    pub(super) host: HostInfo,
}

/// A place where this home has, or would have, clusters.
pub(super) struct Connection {
    pub(super) uri: String,
    pub(super) link: Result<Link>,
}

/// What there is to look at.
pub(super) struct Surroundings<'a> {
    pub(super) store: &'a Store,
    pub(super) profiles: Vec<Seen>,
    /// The default one first.
    pub(super) connections: Vec<Connection>,
    /// Another kubby works on the pool, or chooses ports.
    pub(super) shared_busy: bool,
    /// The kubeconfig that a new cluster's context would go to.
    pub(super) default_kubeconfig: Result<PathBuf>,
}

impl<'a> Surroundings<'a> {
    /// Reads the home and opens the connections. libvirt that does not answer is no error.
    ///
    /// # Errors
    /// [`crate::error::Kind::Internal`] when the profiles cannot be listed.
    pub(super) fn gather(store: &'a Store) -> Result<Self> {
        let profiles: Vec<Seen> = store
            .profile_names()?
            .into_iter()
            .map(|name| {
                let dir = store.profile_dir(&name);
                Seen {
                    profile: Profile::load(&dir),
                    busy: store.is_profile_locked(&name),
                    dir,
                    name,
                }
            })
            .collect();
        let mut uris = vec![hypervisor::default_uri(None)];
        let of_profiles = profiles.iter().filter_map(Seen::profile);
        let saved = garbage::templates(store);
        let of_templates = saved.iter().map(|saved| &saved.profile);
        for profile in of_profiles.chain(of_templates) {
            if !uris.contains(&profile.connect) {
                uris.push(profile.connect.clone());
            }
        }
        let connections = uris
            .into_iter()
            .map(|uri| Connection {
                link: open(&uri),
                uri,
            })
            .collect();
        Ok(Surroundings {
            shared_busy: store.is_shared_locked(),
            default_kubeconfig: kubeconfig::default_path(),
            store,
            profiles,
            connections,
        })
    }

    /// The profiles that can be read and that no other kubby works on.
    pub(super) fn settled(&self) -> impl Iterator<Item = (&Seen, &Profile)> {
        let quiet = self.profiles.iter().filter(|seen| !seen.busy);
        quiet.filter_map(|seen| Some((seen, seen.profile()?)))
    }

    /// The connections on which libvirt answers.
    pub(super) fn links(&self) -> impl Iterator<Item = (&str, &Link)> {
        let all = self.connections.iter();
        all.filter_map(|c| Some((c.uri.as_str(), c.link.as_ref().ok()?)))
    }

    /// libvirt on a connection, if it answers.
    pub(super) fn link(&self, uri: &str) -> Option<&Link> {
        self.links().find(|(u, _)| *u == uri).map(|(_, link)| link)
    }

    /// Whether the folder of a profile is there, whatever is in it.
    pub(super) fn has_folder(&self, name: &ProfileName) -> bool {
        self.profiles.iter().any(|seen| seen.name == *name)
    }

    /// Whether another kubby works on a profile, which need not have a folder yet.
    pub(super) fn is_busy(&self, name: &ProfileName) -> bool {
        self.store.is_profile_locked(name)
    }

    /// All kubeconfig files that this home has contexts in, or would have.
    pub(super) fn kubeconfigs(&self) -> BTreeSet<&Path> {
        let of_profiles = self.profiles.iter().filter_map(Seen::profile);
        let mut all: BTreeSet<&Path> = of_profiles.map(|p| p.kubeconfig.as_path()).collect();
        all.extend(self.default_kubeconfig.as_deref().ok());
        all
    }
}

impl Seen {
    /// The profile, where it can be read.
    pub(super) fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref().ok()?.as_ref()
    }
}

fn open(uri: &str) -> Result<Link, Error> {
    let libvirt = Libvirt::open(uri)?;
    let host = libvirt.host()?;
    Ok(Link { libvirt, host })
}
