//! Image archives of the user's add-ons: they go into the node while kube-apiserver starts, which
//! neither they nor containerd need.

use std::path::PathBuf;
use std::thread::JoinHandle;

use crate::cluster::Access;
use crate::error::{Error, Kind, Result};
use crate::image::{self, Loaded};
use crate::progress::{Progress, Silent};

/// Archives that are being loaded, or none.
pub(crate) struct Loading {
    thread: Option<JoinHandle<Result<Vec<Loaded>>>>,
}

impl Loading {
    /// Begins to load; a node that has just booted is waited for until its containerd runs.
    pub(crate) fn begin(access: &Access, archives: &[PathBuf]) -> Loading {
        if archives.is_empty() {
            return Loading { thread: None };
        }
        let (access, archives) = (access.clone(), archives.to_vec());
        // Not scoped: what else goes wrong meanwhile ends the start, which need not wait for this.
        let load = move || {
            let load =
                |archive: &PathBuf| image::load(&access, &archive.to_string_lossy(), &[], &Silent);
            archives.iter().map(load).collect()
        };
        Loading {
            thread: Some(std::thread::spawn(load)),
        }
    }

    /// Waits until all of them are there, and tells what there is to say about them.
    ///
    /// # Errors
    /// As [`image::load`].
    pub(crate) fn end(self, progress: &dyn Progress) -> Result<()> {
        let Some(thread) = self.thread else {
            return Ok(());
        };
        let step = progress.step("Load the add-ons' own images");
        let broke = |_| {
            Err(Error::new(
                Kind::Internal,
                "loading images ended in a panic",
            ))
        };
        let loaded = thread.join().unwrap_or_else(broke)?;
        let names = || loaded.iter().flat_map(|l| &l.images).flat_map(|i| &i.names);
        let all: Vec<String> = names().map(image::Reference::familiar).collect();
        step.done(all.join(", "));
        names().for_each(|name| name.warn_if_always_pulled(progress));
        Ok(())
    }
}
