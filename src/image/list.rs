//! The images of a whole cluster, and the nodes that have them.

use serde::Serialize;

use super::node::{ImageStore, NodeImage};
use crate::cluster::node::Node;
use crate::error::{Kind, Result};
use crate::parallel;
use crate::progress::Progress;

/// An image, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    /// The image, with the names of all nodes.
    #[serde(flatten)]
    pub image: NodeImage,
    /// The names of the nodes that have it.
    pub nodes: Vec<String>,
}

/// Lists the images of nodes, each image once, sorted by their names. The nodes are asked at the same time;
/// one that does not answer is warned of, unless it is the first.
///
/// # Errors
/// As [`ImageStore::connect`] and [`ImageStore::images`], for the first node.
pub(crate) fn list(nodes: &[Node], progress: &dyn Progress) -> Result<Vec<Listed>> {
    let ask = |node: &Node| ImageStore::connect(node)?.images();
    let answers = parallel::each(nodes, "listing images", ask);
    let mut all = Vec::new();
    for (index, (node, images)) in nodes.iter().zip(answers).enumerate() {
        match images {
            Err(e) if index > 0 && e.kind() != Kind::Interrupted => {
                progress.warn(&format!(
                    "the images of `{}` are not listed: {e}",
                    node.name
                ));
            }
            images => add(&mut all, &node.name, images?),
        }
    }
    all.sort_by(|a, b| (&a.image.names, &a.image.id).cmp(&(&b.image.names, &b.image.id)));
    Ok(all)
}

fn add(all: &mut Vec<Listed>, node: &str, images: Vec<NodeImage>) {
    for image in images {
        match all.iter_mut().find(|known| known.image.id == image.id) {
            Some(known) => {
                known.nodes.push(node.to_owned());
                for (names, more) in [
                    (&mut known.image.names, image.names),
                    (&mut known.image.digests, image.digests),
                ] {
                    names.extend(more);
                    names.sort();
                    names.dedup();
                }
            }
            None => all.push(Listed {
                image,
                nodes: vec![node.to_owned()],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_listed_once_with_its_nodes() {
        let image = |id: &str, name: &str| NodeImage {
            id: id.into(),
            names: vec![name.into()],
            digests: Vec::new(),
            size_bytes: 1,
            pinned: false,
        };
        let mut all = Vec::new();
        add(&mut all, "kubby", vec![image("1", "a"), image("2", "b")]);
        add(&mut all, "worker-1", vec![image("1", "a"), image("3", "c")]);
        add(&mut all, "worker-2", vec![image("1", "d")]);
        let rows: Vec<_> = all
            .iter()
            .map(|l| (l.image.names.join(" "), l.nodes.join(" ")))
            .collect();
        let row = |names: &str, nodes: &str| (names.to_owned(), nodes.to_owned());
        assert_eq!(
            rows,
            [
                row("a d", "kubby worker-1 worker-2"),
                row("b", "kubby"),
                row("c", "worker-1")
            ]
        );
    }
}
