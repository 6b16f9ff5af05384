//! Removes images from the node, as `docker rmi` does it: a name is removed, and with its last name
//! the image, unless a container runs from it.

use serde::Serialize;

use super::node::{self, ImageStore, NodeImage, Running};
use crate::cluster::node::Node;
use crate::error::{Error, Result};

/// The removal of one image or of some of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Removed {
    /// The names that were removed.
    pub names: Vec<String>,
    /// The image's id.
    pub id: String,
    /// Whether the image was removed with them.
    pub image_removed: bool,
}

/// Removes names, or images by their ids; everything is checked before the first is removed. With
/// `force` also images that running containers are made from.
///
/// # Errors
/// [`crate::error::Kind::State`] for an image that does not exist, that is used, or that the node
/// needs.
pub(crate) fn remove(node: &Node, texts: &[String], force: bool) -> Result<Vec<Removed>> {
    let mut store = ImageStore::connect(node)?;
    let images = store.images()?;
    let running = store.running()?;
    let plan = plan(&images, &running, texts, force, &store.flag)?;
    for removed in &plan {
        if removed.image_removed {
            store.remove(&removed.id)?;
        } else {
            store.untag(&removed.names)?;
        }
    }
    store.forget(plan.iter().flat_map(|removed| &removed.names))?;
    Ok(plan)
}

/// Removes from another node those names of what was removed from the first that it has.
///
/// # Errors
/// As [`remove`].
pub(crate) fn remove_too(node: &Node, removed: &[Removed], force: bool) -> Result<()> {
    let images = ImageStore::connect(node)?.images()?;
    let has = |name: &&String| images.iter().any(|image| image.names.contains(name));
    let names = removed.iter().flat_map(|r| &r.names).filter(has);
    let names: Vec<String> = names.cloned().collect();
    match names.is_empty() {
        true => Ok(()),
        false => remove(node, &names, force).map(drop),
    }
}

fn plan(
    images: &[NodeImage],
    running: &[Running],
    texts: &[String],
    force: bool,
    flag: &str,
) -> Result<Vec<Removed>> {
    let mut plan: Vec<Removed> = Vec::new();
    for text in texts {
        let meant = node::find(images, text, flag)?;
        let image = meant.image;
        let tag = meant.name.filter(|name| image.names.contains(name));
        let place = plan.iter().position(|r| r.id == image.id);
        let place = place.unwrap_or_else(|| {
            plan.push(Removed {
                names: Vec::new(),
                id: image.id.clone(),
                image_removed: false,
            });
            plan.len() - 1
        });
        let removed = &mut plan[place];
        match tag {
            Some(name) if !removed.names.contains(&name) => removed.names.push(name),
            Some(_) => {}
            // An id or a digest means the image itself.
            None => removed.names.clone_from(&image.names),
        }
        removed.image_removed = removed.names.len() == image.names.len();
        if removed.image_removed {
            check(image, running, force, flag)?;
        }
    }
    Ok(plan)
}

fn check(image: &NodeImage, running: &[Running], force: bool, flag: &str) -> Result<()> {
    let shown = image.names.first().map_or(image.short_id(), String::as_str);
    if image.pinned {
        let message = format!("every pod needs {shown}, so it cannot be removed");
        return Err(Error::state(message));
    }
    let users = image.users(running);
    if users.is_empty() || force {
        return Ok(());
    }
    let users = users.join(", ");
    let message = format!("{shown} is used by running containers of {users}");
    Err(Error::state(message)
        .with_hint(format!("delete them: kubby kubectl{flag} -- delete pod …"))
        .with_hint(
            "or remove the image with --force: running containers continue, but cannot restart",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn image(id: &str, names: &[&str], pinned: bool) -> NodeImage {
        NodeImage {
            id: format!("sha256:{id}"),
            names: names
                .iter()
                .map(|n| format!("docker.io/library/{n}"))
                .collect(),
            digests: vec![],
            size_bytes: 1,
            pinned,
        }
    }

    fn planned(texts: &[&str], force: bool) -> Result<Vec<Removed>> {
        let images = [
            image("aaaaaaaa", &["a:1", "a:2"], false),
            image("bbbbbbbb", &["b:1"], false),
            image("cccccccc", &["pause:3"], true),
        ];
        let running = [Running {
            pod: "default/web".into(),
            images: vec!["sha256:bbbbbbbb".into()],
        }];
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        plan(&images, &running, &texts, force, "")
    }

    #[test]
    fn the_image_is_removed_with_its_last_name() {
        let one = &planned(&["a:1"], false).unwrap()[0];
        assert!(!one.image_removed);
        assert_eq!(one.names, ["docker.io/library/a:1"]);
        for both in [
            &["a:1", "a:2"][..],
            &["aaaaaaaa"],
            &["a:1", "aaaaaaaa", "a:1"],
        ] {
            let plan = planned(both, false).unwrap();
            assert_eq!(plan.len(), 1);
            assert!(
                plan[0].image_removed && plan[0].names.len() == 2,
                "{plan:?}"
            );
        }
    }

    #[test]
    fn used_images_stay_unless_forced_and_pinned_ones_always() {
        let e = planned(&["a:1", "b:1"], false).unwrap_err();
        assert_eq!(e.kind(), Kind::State);
        assert!(e.message().contains("default/web"), "{e}");
        assert!(planned(&["b:1"], true).unwrap()[0].image_removed);
        assert!(planned(&["pause:3"], true).is_err());
    }
}
