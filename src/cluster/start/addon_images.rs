//! Loading the image archives of the user's add-ons into the node while kube-apiserver starts, which
//! neither they nor containerd need.

use std::path::PathBuf;
use std::thread::JoinHandle;

use crate::cluster::node::Node;
use crate::error::{Error, Result};
use crate::image::{self, Loaded};
use crate::progress::{Progress, Silent};

/// The loading of archives, if there are any.
#[derive(Default)]
pub(crate) struct Loading {
    thread: Option<JoinHandle<Result<Vec<Loaded>>>>,
}

impl Loading {
    /// Begins to load into these nodes; in a node that has just booted it waits until containerd runs.
    pub(crate) fn begin(nodes: Vec<Node>, archives: &[PathBuf]) -> Loading {
        if nodes.is_empty() || archives.is_empty() {
            return Loading::default();
        }
        let archives = archives.to_vec();
        // Not scoped: another error meanwhile ends the start, which need not wait for this.
        let load = move || {
            let all = archives
                .iter()
                .flat_map(|archive| nodes.iter().map(move |n| (n, archive)));
            all.map(|(node, archive)| image::load(node, &archive.to_string_lossy(), &[], &Silent))
                .collect()
        };
        Loading {
            thread: Some(std::thread::spawn(load)),
        }
    }

    /// Waits until all of them are loaded, and reports them.
    ///
    /// # Errors
    /// As [`image::load`].
    pub(crate) fn end(self, progress: &dyn Progress) -> Result<()> {
        let Some(thread) = self.thread else {
            return Ok(());
        };
        let step = progress.step("Load the add-ons' own images");
        let broke = |_| Err(Error::internal("loading images ended in a panic"));
        let loaded = thread.join().unwrap_or_else(broke)?;
        let names = || loaded.iter().flat_map(|l| &l.images).flat_map(|i| &i.names);
        let all: Vec<String> = names().map(image::Reference::familiar).collect();
        step.done(all.join(", "));
        names().for_each(|name| name.warn_if_always_pulled(progress));
        Ok(())
    }
}
