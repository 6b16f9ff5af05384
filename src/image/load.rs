//! Loads images into the node: an archive streams from its source through the checks of
//! [`super::archive`] into containerd, and is never stored in between.

use serde::Serialize;

use super::archive::{self, Image, Request};
use super::node::{self, ImageStore};
use super::reference::Reference;
use super::source::Source;
use crate::assets::components::arch;
use crate::cluster::node::Node;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::remote::Process;
use crate::units::human_bytes;

/// Reads an archive from standard input and imports it, by `ctr` itself: kubby counts on how that ends
/// when an archive is cut, and containerd's transfer service has not been tried.
const IMPORT: &str = "images import --local -";

/// The result of loading an archive.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Loaded {
    /// The images with all names that they got.
    pub images: Vec<Image>,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that the node had already and that were not sent.
    pub spared_bytes: u64,
}

/// Loads `what`: a file, `-` for standard input, or an image of a local docker or podman. `names`
/// replace those in the archive.
///
/// # Errors
/// See [`archive::pass_on`] and [`Source::open`]; [`Kind::NodeUnreachable`] when the node does not
/// answer; [`Kind::Assets`] when containerd refuses the archive.
pub(crate) fn load(
    node: &Node,
    what: &str,
    names: &[Reference],
    progress: &dyn Progress,
) -> Result<Loaded> {
    let mut source = Source::open(what)?;
    let mut store = ImageStore::connect(node)?;
    let (blobs, before) = store.contents()?;
    let request = Request {
        label: source.label.clone(),
        arch: arch()?.to_owned(),
        names: names.to_vec(),
        also: source.name.clone().filter(|_| names.is_empty()),
        present: blobs,
    };
    let step = progress.step(&format!("Load {}", source.label));
    source.sink = Some(step.sink());
    let mut import = Import {
        store: &mut store,
        process: None,
        ended: false,
    };
    let passed = archive::pass_on(&mut source, &request, &mut |data| import.send(data))
        .and_then(|passed| source.finish().map(|()| passed));
    let passed = match passed {
        Ok(passed) => passed,
        Err(e) => return Err(import.abandon(source.explain(e))),
    };
    step.detail("containerd unpacks it");
    if let Err(e) = import.finish(&source.label) {
        let given = passed.images.iter().flat_map(|i| &i.names);
        let mut new: Vec<String> = given.map(ToString::to_string).collect();
        new.retain(|name| !before.contains(name));
        // Names of images that could not be unpacked are of no use. There may be none to remove.
        if !new.is_empty() {
            let _ = store.untag(&new);
        }
        return Err(e);
    }
    for image in &passed.images {
        store.await_names(&image.id, &image.names)?;
    }
    store.record(passed.images.iter().flat_map(|image| &image.names))?;
    let mut summary = human_bytes(source.done);
    if passed.spared > 0 {
        let spared = human_bytes(passed.spared);
        summary.push_str(&format!(", {spared} were there already"));
    }
    step.done(summary);
    for name in passed.images.iter().flat_map(|i| &i.names) {
        name.warn_if_always_pulled(progress);
    }
    Ok(Loaded {
        images: passed.images,
        read_bytes: source.done,
        spared_bytes: passed.spared,
    })
}

/// containerd's import in the node, begun with the first byte for it.
struct Import<'a> {
    store: &'a mut ImageStore,
    process: Option<Process>,
    /// Whether the import ended before it had everything.
    ended: bool,
}

impl Import<'_> {
    fn send(&mut self, data: &[u8]) -> Result<()> {
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(self.store.stream(IMPORT)?),
        };
        if process.write(data)? {
            return Ok(());
        }
        self.ended = true;
        Err(Error::assets("containerd ended the import"))
    }

    fn finish(self, label: &str) -> Result<()> {
        let Some(process) = self.process else {
            return Ok(());
        };
        let output = self.store.finish(process)?;
        if output.success() {
            return Ok(());
        }
        let (said, flag) = (node::errors_of(&output), &self.store.flag);
        let hint = if said.contains("no space left") {
            "the node's disk is full: kubby image remove frees room".to_owned()
        } else {
            format!("see its journal: kubby ssh{flag} -- journalctl -b -u containerd")
        };
        let message = format!("containerd in the node cannot import {label}");
        let error = Error::assets(message).with_detail("it says", said);
        Err(error.with_hint(hint))
    }

    /// Ends the import without the index, so that it changes nothing, and waits for that. If it had
    /// ended by itself, its reason is the error.
    fn abandon(self, error: Error) -> Error {
        if error.kind() == Kind::Interrupted || error.kind() == Kind::NodeUnreachable {
            return error;
        }
        if self.ended {
            return self.finish("it").err().unwrap_or(error);
        }
        if let Some(process) = self.process {
            let _ = self.store.finish(process);
        }
        error
    }
}
