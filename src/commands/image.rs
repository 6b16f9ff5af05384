//! `kubby image`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::ImageCommand;
use crate::cluster::Cluster;
use crate::cluster::node::Node;
use crate::error::Result;
use crate::image::node::{self, ImageStore};
use crate::image::{self, Listed, Reference};
use crate::units::human_bytes;

/// Runs one of the commands.
pub(super) fn run(context: &Context, command: ImageCommand) -> Result<ExitCode> {
    let nodes = Cluster::open(&context.store, &context.global.profile)?.nodes()?;
    let node = &nodes[0];
    let progress = context.progress.as_ref();
    match command {
        ImageCommand::Load { what, names } => {
            let loaded = image::load_everywhere(&nodes, &what, &names, progress)?;
            let text = lines(loaded.images.iter().flat_map(|image| &image.names));
            context.report("ImageLoad", &loaded, &text)
        }
        ImageCommand::Build(mut options) => {
            options.quiet = context.global.quiet;
            let built = image::build(node, &options, progress)?;
            image::spread(&nodes, &built.names, progress)?;
            context.report("ImageBuild", &built, &lines(&built.names))
        }
        ImageCommand::List => {
            let images = image::list(&nodes, progress)?;
            context.report("ImageList", &images, &table(&images, nodes.len()))
        }
        ImageCommand::Pull { names } => pull(context, &nodes, &names),
        ImageCommand::Save { names, file } => {
            let size = image::save(node, &names, &file, progress)?;
            if file == Path::new("-") {
                // Standard output contains the archive and nothing else.
                return Ok(ExitCode::SUCCESS);
            }
            let data = json!({"file": file, "sizeBytes": size});
            context.report("ImageSave", &data, &lines([file.display()]))
        }
        ImageCommand::Tag { source, name } => tag(context, &nodes, &source, &name),
        ImageCommand::Remove { names, force } => {
            let removed = image::remove(node, &names, force)?;
            for other in &nodes[1..] {
                image::remove_too(other, &removed, force)?;
            }
            let text = lines(removed.iter().flat_map(|r| {
                let id = r.image_removed.then_some(&r.id);
                r.names.iter().chain(id)
            }));
            context.report("ImageRemove", &removed, &text)
        }
    }
}

fn lines<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| format!("{}\n", item.to_string()))
        .collect()
}

/// Returns the table with one line for each name, so that names can be copied into pods.
fn table(images: &[Listed], nodes: usize) -> String {
    let mut rows = Vec::new();
    for Listed { image, nodes: on } in images {
        let on = if on.len() == nodes {
            "all"
        } else {
            &on.join(",")
        };
        let mut row = |name: &str, tag: &str| {
            let size = human_bytes(image.size_bytes);
            rows.push([name, tag, image.short_id(), &size, on].map(str::to_owned));
        };
        for name in &image.names {
            match name.parse::<Reference>() {
                Ok(reference) => row(&reference.repository(), reference.tag().unwrap_or("<none>")),
                Err(_) => row(name, "<none>"),
            }
        }
        if image.names.is_empty() {
            let name = image.digests.first().and_then(|d| d.split('@').next());
            row(name.unwrap_or("<none>"), "<none>");
        }
    }
    if nodes > 1 {
        return super::table(["NAME", "TAG", "ID", "SIZE", "NODES"], rows);
    }
    let rows = rows
        .into_iter()
        .map(|[name, tag, id, size, _]| [name, tag, id, size]);
    super::table(["NAME", "TAG", "ID", "SIZE"], rows)
}

fn pull(context: &Context, nodes: &[Node], names: &[Reference]) -> Result<ExitCode> {
    let mut store = ImageStore::connect(&nodes[0])?;
    for name in names {
        let step = context.progress.step(&format!("Pull {name}"));
        store.pull(name)?;
        step.done("");
    }
    image::spread(nodes, names, context.progress.as_ref())?;
    context.report("ImagePull", &json!({"names": names}), &lines(names))
}

fn tag(context: &Context, nodes: &[Node], source: &str, name: &Reference) -> Result<ExitCode> {
    let mut store = ImageStore::connect(&nodes[0])?;
    let images = store.images()?;
    let meant = node::find(&images, source, &store.flag)?;
    let id = meant.image.id.clone();
    // In containerd, the ID of an image is also one of its names.
    let source = meant.name.unwrap_or_else(|| id.clone());
    store.tag(&source, name)?;
    store.await_names(&id, std::slice::from_ref(name))?;
    store.record([name])?;
    name.warn_if_always_pulled(context.progress.as_ref());
    image::spread(nodes, std::slice::from_ref(name), context.progress.as_ref())?;
    let data = json!({"name": name, "id": id});
    context.report("ImageTag", &data, &lines([name]))
}
