//! A containerd store with images unpacked in it, as a part of the volume: a new node takes it over
//! instead of importing the images, which costs an emulated one ten seconds.

use std::sync::Arc;
use std::time::Duration;

use super::go::{Job, READ};
use super::stage::Stage;
use crate::error::{Kind, Result};
use crate::progress::StepSink;
use crate::tool::Tool;

/// The module that makes it; what it is built into runs on this host.
pub(super) const MODULE: &str = "seed";

/// The sandbox image.
const SANDBOX: &str = "pause";

/// The images that every cluster runs by default, by the archives' names.
const SEEDED: [&str; 4] = [SANDBOX, "coredns", "policies", "storage"];

/// Returns the job that builds its program.
pub(super) fn job(stage: &Stage) -> Job {
    Job {
        module: MODULE,
        package: ".",
        out: stage.work.join(MODULE),
        stamp: String::new(),
        tags: "",
        mode: READ,
    }
}

/// Makes the store out of those images that are in the stage. One that cannot be unpacked without
/// privileges is left out: the node imports it.
///
/// # Errors
/// [`Kind::Assets`] when an image is damaged or the disk is full.
pub(super) fn make(stage: &Stage, sink: Arc<dyn StepSink>) -> Result<()> {
    let images = &stage.references;
    let archives = SEEDED
        .into_iter()
        .filter(|name| images.contains_key(*name))
        .map(|name| stage.image(name));
    Tool::new(stage.work.join(MODULE).to_string_lossy(), Kind::Assets)
        .arg("-out")
        .arg(stage.images.with_file_name("containerd"))
        .arg("-sandbox")
        .arg(images.get(SANDBOX).map_or("", String::as_str))
        .args(archives)
        .deadline(Duration::from_secs(600))
        .run(Some(sink))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addon;
    use crate::assets::recipes;

    #[test]
    fn what_every_cluster_runs_is_seeded() {
        let mut wanted = vec![SANDBOX.to_owned()];
        for addon in addon::builtin() {
            if addon.default {
                wanted.extend(addon.images.clone());
            }
        }
        assert_eq!(SEEDED.as_slice(), wanted.as_slice());
        for file in ["go.mod", "go.sum", "main.go"] {
            let recipe = recipes::files(&format!("components/{MODULE}"));
            assert!(recipe.iter().any(|(path, _)| path == file), "{file}");
        }
    }
}
