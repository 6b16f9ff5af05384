//! The add-ons of a cluster: finding them, importing their images and applying them.

use std::path::Path;
use std::time::Instant;

use crate::addon::{self, Addon, Folder, Object};
use crate::api::ApiClient;
use crate::assets::components;
use crate::cluster::env::Backend;
use crate::cluster::node::{CONNECT_LIMIT, Node};
use crate::cluster::policies;
use crate::cluster::spec::ClusterArgs;
use crate::cni::CniArg;
use crate::error::{Error, Result};
use crate::profile::Profile;
use crate::progress::Progress;
use crate::provision;
use crate::remote::Remote;
use crate::store::ProfileDir;
use crate::trace;

/// Returns the add-ons of a profile, in the order in which they were enabled.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) when one cannot be read any more.
pub(crate) fn enabled(profile: &Profile, dir: &ProfileDir) -> Result<Vec<Addon>> {
    let find = |name: &String| match addon::kept(dir, name)? {
        Some(own) => Ok(own),
        None => addon::find(name).map_err(|e| {
            Error::state(format!(
                "the add-on `{name}` of the cluster `{}` is gone",
                profile.name
            ))
            .with_source(e)
            .with_hint(format!("kubby addon disable{} {name}", profile.name.flag()))
        }),
    };
    let mut addons: Vec<Addon> = profile
        .spec
        .addons
        .iter()
        .map(find)
        .collect::<Result<_>>()?;
    if profile.has_several_control_planes() {
        let own = addons.iter_mut().filter(|addon| addon.folder.is_none());
        let dns = own.filter(|addon| addon.name == DNS);
        dns.flat_map(|addon| &mut addon.objects)
            .for_each(Object::double);
    }
    Ok(addons)
}

/// The add-on without which pods find no Service.
const DNS: &str = "dns";

/// Reads what the user names: an add-on of kubby, or a folder of their own.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a name or folder that is not an add-on.
pub(crate) fn read(what: &str, kubectl: &Path) -> Result<Folder> {
    if addon::is_folder(what) {
        let usual = Path::new("kubectl");
        let kubectl = if kubectl.as_os_str().is_empty() {
            usual
        } else {
            kubectl
        };
        return addon::read(Path::new(what), kubectl);
    }
    Ok(Folder {
        addon: addon::find(what)?,
        archives: Vec::new(),
    })
}

/// Returns the add-ons that the flags of `start` name, after checking those flags as a whole.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a name or folder that is not an add-on.
pub(crate) fn asked(args: &ClusterArgs, existing: Option<&Profile>) -> Result<Vec<Folder>> {
    let kubectl = existing
        .map(|p| p.assets.kubectl.clone())
        .unwrap_or_default();
    for name in &args.no_addon {
        if args.addon.contains(name) {
            return Err(Error::usage(format!(
                "--addon and --no-addon both name `{name}`"
            )));
        }
        let is_own = existing.is_some_and(|p| p.spec.addons.contains(name));
        if !is_own {
            addon::find(name)?;
        }
    }
    let plugin = match &args.cni {
        Some(CniArg::Folder(folder)) => Some(plugin(folder, &kubectl, existing)?),
        _ => None,
    };
    let others = args.addon.iter().map(|what| read(what, &kubectl));
    plugin.into_iter().map(Ok).chain(others).collect()
}

/// Reads the add-on with a network plugin; a cluster keeps the one that it began with.
fn plugin(folder: &Path, kubectl: &Path, existing: Option<&Profile>) -> Result<Folder> {
    // Also one without a slash is a folder here.
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let read = read(&whole.to_string_lossy(), kubectl)?;
    match existing {
        Some(profile) if !profile.spec.addons.contains(&read.addon.name) => {
            Err(Error::usage(format!(
                "--cni: the cluster `{}` has another network plugin than `{}`, which cannot be changed",
                profile.name, read.addon.name
            )))
        }
        _ => Ok(read),
    }
}

/// Takes out of nodes that run what a removed add-on has left there. A node's failure is a warning: it is gone when the
/// node boots.
///
/// # Errors
/// As `nodes`, which is asked only for an add-on that leaves something.
pub(crate) fn tidy(
    backend: &dyn Backend,
    nodes: impl FnOnce() -> Result<Vec<Node>>,
    name: &str,
    progress: &dyn Progress,
) -> Result<()> {
    if name != policies::ADDON {
        return Ok(());
    }
    for node in nodes()? {
        let limit = node.deadline(CONNECT_LIMIT);
        let session = backend.connect(&node.target, limit);
        let tidied = session.and_then(|mut session| provision::remove_policies(session.as_mut()));
        if let Err(e) = tidied {
            progress.warn(&format!(
                "pods on the node `{}` that a NetworkPolicy selects get no connections until it boots again: {e}",
                node.name
            ));
        }
    }
    Ok(())
}

/// Puts the images of kubby's own add-ons from the component volume into the node's containerd.
///
/// # Errors
/// [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when the volume lacks one or containerd refuses it.
pub(crate) fn import(remote: &mut dyn Remote, addons: &[&Addon]) -> Result<()> {
    let wanted = |archive: &str| {
        let uses = |addon: &&Addon| addon.images.iter().any(|name| name == archive);
        addons.iter().any(uses)
    };
    let images: Vec<(&str, &str)> = components::IMAGES
        .iter()
        .filter(|(archive, _)| wanted(archive))
        .map(|(archive, image)| (*image, *archive))
        .collect();
    if images.is_empty() {
        return Ok(());
    }
    let _span = trace::span("import images in the node");
    let output = remote.exec(&provision::import_command(&images), b"", None)?;
    if output.status == provision::NO_ARCHIVE {
        return Err(
            Error::state("the cluster's components lack an image that its add-ons need")
                .with_detail("the node says", String::from_utf8_lossy(&output.stderr))
                .with_hint("recreate the cluster: kubby delete, then kubby start")
                .with_hint(
                    "kubby addon disable NAME, or kubby start --no-addon NAME, does without",
                ),
        );
    }
    output.require("importing the add-ons' images").map(drop)
}

/// Applies add-ons; fields that others have changed are left as they are, with a warning.
///
/// # Errors
/// As [`addon::apply`].
pub(crate) fn apply(
    api: &ApiClient,
    addons: &[&Addon],
    force: bool,
    deadline: Instant,
    flag: &str,
    progress: &dyn Progress,
) -> Result<()> {
    for addon in addons {
        let _span = trace::span(format!("apply {}", addon.name));
        let applied = addon::apply(api, addon, force, deadline)?;
        for (object, why) in applied.conflicts {
            progress.warn(&format!(
                "the add-on `{0}`: {object} was changed by another client and stays so ({why}); \
                 `kubby addon enable{flag} --force {0}` puts it back",
                addon.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_keeps_its_network_plugin() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = dir.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            let object =
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n";
            std::fs::write(folder.join("plugin.yaml"), object).unwrap();
            folder
        };
        let mut profile = crate::profile::example();
        profile.spec.addons = vec!["one".into()];
        let read = |name, existing| plugin(&folder(name), Path::new(""), existing);
        assert_eq!(read("two", None).unwrap().addon.name, "two");
        assert_eq!(read("one", Some(&profile)).unwrap().addon.name, "one");
        let refused = read("two", Some(&profile)).unwrap_err();
        assert!(
            refused.message().contains("cannot be changed"),
            "{refused:?}"
        );
    }
}
