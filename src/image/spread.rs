//! Brings images of one node to the other nodes of a cluster, so that a pod finds them wherever it runs.

use super::load::Loaded;
use super::node::ImageStore;
use super::reference::Reference;
use super::{load, save};
use crate::cluster::node::Node;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::parallel;
use crate::progress::{Progress, Silent};

/// Loads images into all nodes. A file is loaded into all of them at the same time; what can be read only
/// once goes to the first, and from there to the others.
///
/// # Errors
/// As [`load::load`] and [`spread`].
pub(crate) fn load_everywhere(
    nodes: &[Node],
    what: &str,
    names: &[Reference],
    progress: &dyn Progress,
) -> Result<Loaded> {
    let is_file = what != "-" && std::fs::metadata(what).is_ok_and(|meta| meta.is_file());
    if !is_file {
        let loaded = load::load(&nodes[0], what, names, progress)?;
        let all = loaded.images.iter().flat_map(|image| &image.names);
        spread(nodes, &all.cloned().collect::<Vec<_>>(), progress)?;
        return Ok(loaded);
    }
    let load = |(index, node): (usize, &Node)| match index {
        0 => load::load(node, what, names, progress),
        _ => load_too(node, what, names),
    };
    let mut loaded = parallel::each(nodes.iter().enumerate(), "loading images", load).into_iter();
    let first = loaded
        .next()
        .unwrap_or_else(|| Err(Error::internal("there is no node")))?;
    loaded.collect::<Result<Vec<_>>>()?;
    Ok(first)
}

/// Loads images into a further node, whose name is in the error.
fn load_too(node: &Node, what: &str, names: &[Reference]) -> Result<Loaded> {
    load::load(node, what, names, &Silent).context(Kind::Assets, || {
        format!("the images are not on the node `{}`", node.name)
    })
}

/// Copies images from the first of these nodes to all others at the same time. Parts that a node has
/// already are not sent.
///
/// # Errors
/// As [`save::save`] and [`load::load`], with the name of the node.
pub(crate) fn spread(nodes: &[Node], names: &[Reference], progress: &dyn Progress) -> Result<()> {
    let [first, others @ ..] = nodes else {
        return Ok(());
    };
    if others.is_empty() || names.is_empty() {
        return Ok(());
    }
    let step = progress.step("Copy the images to the other nodes");
    let folder = tempfile::Builder::new().prefix("kubby-images-").tempdir();
    let folder = folder.context(Kind::Internal, || "cannot make a private folder".into())?;
    let archive = folder.path().join("images.tar");
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    save::save(first, &names, &archive, &Silent)?;
    let archive = archive.to_string_lossy();
    let copied = parallel::each(others, "copying images", |node| {
        load_too(node, &archive, &[])
    });
    copied.into_iter().collect::<Result<Vec<_>>>()?;
    let all: Vec<&str> = others.iter().map(|node| node.name.as_str()).collect();
    step.done(all.join(", "));
    Ok(())
}

/// Brings those of these images that the first node still has to other nodes, which lack some.
///
/// # Errors
/// As [`spread`].
pub(crate) fn bring(
    first: &Node,
    new: &[Node],
    names: Vec<Reference>,
    progress: &dyn Progress,
) -> Result<()> {
    let has = ImageStore::connect(first)?.images()?;
    let is_there = |name: &Reference| {
        let name = name.to_string();
        has.iter().any(|image| image.names.contains(&name))
    };
    let names: Vec<Reference> = names.into_iter().filter(is_there).collect();
    let nodes: Vec<Node> = [first].into_iter().chain(new).cloned().collect();
    spread(&nodes, &names, progress)
}
