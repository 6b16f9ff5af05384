//! The images and containers that the runtime interface lists, and the search for one by its name.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::api::items;
use crate::error::{Error, Result};
use crate::image::reference::Reference;

/// The least number of digits of an id that identifies an image.
const ID_LEAST: usize = 6;

/// An image in the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeImage {
    /// The digest of its configuration, `sha256:…`.
    pub id: String,
    /// Its names with tags.
    #[serde(default, rename(deserialize = "repoTags"))]
    pub names: Vec<String>,
    /// Its names with digests, which images have that came from a registry.
    #[serde(default, rename(deserialize = "repoDigests"))]
    pub digests: Vec<String>,
    /// Its size in the node's store, in bytes.
    #[serde(default, rename(deserialize = "size"), deserialize_with = "number")]
    pub size_bytes: u64,
    /// Whether the kubelet never removes it.
    #[serde(default)]
    pub pinned: bool,
}

/// A running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    /// `namespace/pod`.
    pub pod: String,
    /// The names, digests and ids of its image.
    pub images: Vec<String>,
}

/// The image that a user means.
#[derive(Debug)]
pub(crate) struct Meant<'a> {
    /// The image.
    pub image: &'a NodeImage,
    /// The name that was given; none when it was the id.
    pub name: Option<String>,
}

#[derive(Deserialize)]
struct ImageList {
    #[serde(default)]
    images: Vec<NodeImage>,
}

/// Reads a number in a string, as Protocol Buffers write 64 bits.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(text.parse().unwrap_or(0))
}

pub(super) fn parse_images(text: &str) -> Result<Vec<NodeImage>> {
    let list: ImageList = serde_json::from_str(text).map_err(not_understood)?;
    let mut images = list.images;
    for image in &mut images {
        image.names.sort();
    }
    images.sort_by(|a, b| (&a.names, &a.id).cmp(&(&b.names, &b.id)));
    Ok(images)
}

pub(super) fn parse_running(text: &str) -> Result<Vec<Running>> {
    let list: Value = serde_json::from_str(text).map_err(not_understood)?;
    let running = items(&list["containers"]).map(|raw| {
        let label = |name: &str| raw["labels"][name].as_str().unwrap_or("?");
        let (namespace, pod) = (
            label("io.kubernetes.pod.namespace"),
            label("io.kubernetes.pod.name"),
        );
        let images = [&raw["image"]["image"], &raw["imageRef"], &raw["imageId"]];
        let images = images.into_iter().filter_map(Value::as_str);
        Running {
            pod: format!("{namespace}/{pod}"),
            images: images
                .filter(|i| !i.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    });
    Ok(running.collect())
}

fn not_understood(e: serde_json::Error) -> Error {
    Error::internal("cannot read the output of crictl").with_source(e)
}

impl NodeImage {
    /// Returns the id's first digits, as people know them from `docker images`.
    pub(crate) fn short_id(&self) -> &str {
        let hex = self.id.strip_prefix("sha256:").unwrap_or(&self.id);
        hex.get(..12).unwrap_or(hex)
    }

    /// Returns the pods whose running containers are made from it.
    pub(crate) fn users<'a>(&self, running: &'a [Running]) -> Vec<&'a str> {
        let mine = |image: &String| {
            *image == self.id || self.names.contains(image) || self.digests.contains(image)
        };
        let mut pods: Vec<&str> = running
            .iter()
            .filter(|container| container.images.iter().any(mine))
            .map(|container| container.pod.as_str())
            .collect();
        pods.dedup();
        pods
    }
}

/// Finds the image that a name or the beginning of an id means.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a text that cannot be a name, [`Kind::State`](crate::error::Kind::State) when no image has it, or several.
pub(crate) fn find<'a>(images: &'a [NodeImage], text: &str, flag: &str) -> Result<Meant<'a>> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_id = hex.len() >= ID_LEAST && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let name = match text.parse::<Reference>() {
        Ok(name) => Some(name.to_string()),
        Err(_) if is_id => None,
        Err(why) => return Err(Error::usage(why)),
    };
    if let Some(name) = &name {
        let has = |i: &&NodeImage| i.names.contains(name) || i.digests.contains(name);
        if let Some(image) = images.iter().find(has) {
            return Ok(Meant {
                image,
                name: Some(name.clone()),
            });
        }
    }
    let begins = |i: &&NodeImage| i.id.starts_with(&format!("sha256:{hex}"));
    let mut found = images.iter().filter(|i| is_id && begins(i));
    let why = match (found.next(), found.next(), name) {
        (Some(image), None, _) => return Ok(Meant { image, name: None }),
        (Some(_), Some(_), _) => format!("several images have an id that begins with {hex}"),
        (_, _, Some(name)) => format!("the node has no image named {name}"),
        (_, _, None) => format!("the node has no image with the id {hex}"),
    };
    Err(Error::state(why).with_hint(format!("kubby image list{flag} shows all images")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const IMAGES: &str = r#"{"images":[
        {"id":"sha256:abcdef0123456789","repoTags":["docker.io/library/b:1","docker.io/library/a:1"],
         "repoDigests":[],"size":"123","pinned":false},
        {"id":"sha256:abcdef9999999999","repoTags":["registry.k8s.io/pause:3"],"repoDigests":
         ["registry.k8s.io/pause@sha256:00"],"size":"7","pinned":true}]}"#;

    #[test]
    fn the_lists_of_crictl_are_read() {
        let images = parse_images(IMAGES).unwrap();
        assert_eq!(
            images[0].names,
            ["docker.io/library/a:1", "docker.io/library/b:1"]
        );
        assert_eq!((images[0].size_bytes, images[0].pinned), (123, false));
        assert_eq!(images[0].short_id(), "abcdef012345");
        assert!(images[1].pinned);
        assert!(parse_images("{}").unwrap().is_empty());
        assert!(parse_images("no").is_err());
    }

    #[test]
    fn images_are_found_by_name_and_by_id() {
        let images = parse_images(IMAGES).unwrap();
        let id = |text: &str| find(&images, text, "").map(|m| m.image.id.clone());
        assert_eq!(id("a:1").unwrap(), images[0].id);
        assert_eq!(id("docker.io/library/b:1").unwrap(), images[0].id);
        assert_eq!(id("abcdef01").unwrap(), images[0].id);
        assert_eq!(id("sha256:abcdef99").unwrap(), images[1].id);
        assert!(find(&images, "abcdef01", "").unwrap().name.is_none());
        for (text, kind, words) in [
            ("a:2", Kind::State, "no image named docker.io/library/a:2"),
            ("abcdef", Kind::State, "several"),
            ("A b", Kind::Usage, "not an image name"),
        ] {
            let e = find(&images, text, " -p x").unwrap_err();
            assert_eq!(e.kind(), kind, "{text}");
            assert!(e.message().contains(words), "{text}: {e}");
        }
    }

    #[test]
    fn pods_that_run_an_image_are_named_once() {
        let images = parse_images(IMAGES).unwrap();
        let running = parse_running(
            r#"{"containers":[
            {"image":{"image":"sha256:abcdef0123456789"},"imageRef":"x","labels":
             {"io.kubernetes.pod.name":"web","io.kubernetes.pod.namespace":"default"}},
            {"image":{"image":"docker.io/library/a:1"},"labels":
             {"io.kubernetes.pod.name":"web","io.kubernetes.pod.namespace":"default"}}]}"#,
        )
        .unwrap();
        assert_eq!(images[0].users(&running), ["default/web"]);
        assert!(images[1].users(&running).is_empty());
    }
}
