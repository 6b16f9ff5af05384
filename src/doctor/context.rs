//! The input of the checks, gathered once: profiles, connections, kubeconfig files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::finding::{Finding, or};
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::saved::garbage;
use crate::error::{Error, Result};
use crate::hypervisor::HostInfo;
use crate::profile::{Profile, ProfileName};
use crate::store::ProfileDir;

/// A profile's folder and its content.
pub(super) struct Seen {
    pub(super) name: ProfileName,
    pub(super) dir: ProfileDir,
    /// `None` for a folder without a profile file.
    pub(super) profile: Result<Option<Profile>>,
    /// Whether another kubby process is using the profile, which may be incomplete then.
    pub(super) busy: bool,
}

/// A libvirt that answers, and the host it runs on.
pub(super) struct Link<'a> {
    pub(super) host: Host<'a>,
    pub(super) info: HostInfo,
}

/// A libvirt on which this home has, or would have, clusters.
pub(super) struct Connection<'a> {
    pub(super) uri: String,
    pub(super) link: Result<Link<'a>>,
}

/// The input of all checks.
pub(super) struct DoctorContext<'a> {
    pub(super) env: Env<'a>,
    pub(super) profiles: Vec<Seen>,
    /// The connections, the default one first.
    pub(super) connections: Vec<Connection<'a>>,
    /// Whether another kubby process is using the pool or choosing ports.
    pub(super) shared_busy: bool,
    /// The kubeconfig that a new cluster's context would go to.
    pub(super) default_kubeconfig: Result<PathBuf>,
}

impl<'a> DoctorContext<'a> {
    /// Reads the home and opens the connections. A libvirt that does not answer is not an error.
    ///
    /// # Errors
    /// [`crate::error::Kind::Internal`] when the profiles cannot be listed.
    pub(super) fn gather(env: &Env<'a>) -> Result<Self> {
        let store = env.store;
        let names = store.profile_names()?.into_iter();
        let profiles: Vec<Seen> = names
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
        let mut uris = vec![env.backend.default_uri()];
        let of_profiles = profiles.iter().filter_map(Seen::profile);
        let saved = garbage::templates(store);
        let of_templates = saved.iter().map(|saved| &saved.profile);
        for profile in of_profiles.chain(of_templates) {
            if !uris.contains(&profile.connect) {
                uris.push(profile.connect.clone());
            }
        }
        let connections = uris.into_iter().map(|uri| Connection {
            link: open(env, &uri),
            uri,
        });
        Ok(DoctorContext {
            shared_busy: store.is_shared_locked(),
            default_kubeconfig: env.backend.kubeconfig(),
            connections: connections.collect(),
            env: *env,
            profiles,
        })
    }

    /// Returns the profiles that can be read and that no other kubby process is using.
    pub(super) fn settled(&self) -> impl Iterator<Item = (&Seen, &Profile)> {
        let quiet = self.profiles.iter().filter(|seen| !seen.busy);
        quiet.filter_map(|seen| Some((seen, seen.profile()?)))
    }

    /// Returns the connections on which libvirt answers.
    pub(super) fn links(&self) -> impl Iterator<Item = (&str, &Link<'a>)> {
        let all = self.connections.iter();
        all.filter_map(|c| Some((c.uri.as_str(), c.link.as_ref().ok()?)))
    }

    /// Returns the connections to libvirt on this host.
    pub(super) fn local_links(&self) -> impl Iterator<Item = (&str, &Link<'a>)> {
        self.links().filter(|(_, link)| link.info.is_local())
    }

    /// Judges each connection on which libvirt answers.
    pub(super) fn judge_links(&self, judge: impl Fn(&str, &Link<'a>) -> Finding) -> Vec<Finding> {
        let found = self.links().map(|(uri, link)| judge(uri, link));
        or(found, Finding::skipped("libvirt does not answer"))
    }

    /// Returns the connection to a URI, if libvirt answers there.
    pub(super) fn link(&self, uri: &str) -> Option<&Link<'a>> {
        self.links().find(|(u, _)| *u == uri).map(|(_, link)| link)
    }

    /// Returns whether a profile has no folder, and no kubby process is about to make one.
    pub(super) fn is_gone(&self, name: &ProfileName) -> bool {
        let has_folder = self.profiles.iter().any(|seen| seen.name == *name);
        !has_folder && !self.env.store.is_profile_locked(name)
    }

    /// Returns all kubeconfig files that this home has contexts in, or would have.
    pub(super) fn kubeconfigs(&self) -> BTreeSet<&Path> {
        let of_profiles = self.profiles.iter().filter_map(Seen::profile);
        let mut all: BTreeSet<&Path> = of_profiles.map(|p| p.kubeconfig.as_path()).collect();
        all.extend(self.default_kubeconfig.as_deref().ok());
        all
    }
}

impl Seen {
    /// Returns the profile, where it can be read.
    pub(super) fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref().ok()?.as_ref()
    }
}

fn open<'a>(env: &Env<'a>, uri: &str) -> Result<Link<'a>, Error> {
    let host = Host::open(env, uri)?;
    let info = host.info()?;
    Ok(Link { host, info })
}
