//! `kubby node-image`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::assets::node_image;
use crate::error::Result;

/// Builds the node image into the cache, and exports it if asked.
pub(super) fn build(context: &Context, force: bool, export: Option<&Path>) -> Result<ExitCode> {
    let progress = context.progress.as_ref();
    let image = node_image::build(context.store.cache(), force, progress)?;
    let mut data = json!({
        "key": image.key,
        "disk": image.disk,
        "kernel": image.kernel,
        "initrd": image.initrd,
    });
    let mut text = format!("{}\n", image.disk.display());
    if let Some(file) = export {
        let gzip = file.extension().is_some_and(|e| e == "gz");
        let sha256 = node_image::export(&image, file, gzip, progress)?;
        text = format!("{sha256}  {}\n", file.display());
        data["export"] = json!({"file": file, "sha256": sha256});
    }
    context.report("NodeImage", &data, &text)
}
