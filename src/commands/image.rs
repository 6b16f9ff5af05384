//! `kubby image`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::{
    ImageBuildArgs, ImageCommand, ImageLoadArgs, ImagePullArgs, ImageRemoveArgs, ImageSaveArgs,
    ImageTagArgs,
};
use crate::cluster::Cluster;
use crate::cluster::node::Node;
use crate::error::Result;
use crate::image::node::{self, ImageStore, NodeImage};
use crate::image::{self, BuildOptions, Reference};
use crate::units::human_bytes;

/// Runs one of the commands.
pub(super) fn run(context: &Context, command: ImageCommand) -> Result<ExitCode> {
    let node = Cluster::open(&context.store, &context.global.profile)?.node()?;
    match command {
        ImageCommand::Load(args) => load(context, &node, &args),
        ImageCommand::Build(args) => build(context, &node, args),
        ImageCommand::List => list(context, &node),
        ImageCommand::Pull(args) => pull(context, &node, &args),
        ImageCommand::Save(args) => save(context, &node, &args),
        ImageCommand::Tag(args) => tag(context, &node, &args),
        ImageCommand::Remove(args) => remove(context, &node, &args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn lines<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| format!("{}\n", item.to_string()))
        .collect()
}

fn load(context: &Context, node: &Node, args: &ImageLoadArgs) -> Result<()> {
    let progress = context.progress.as_ref();
    let loaded = image::load(node, &args.what, &args.names, progress)?;
    let names = loaded.images.iter().flat_map(|image| &image.names);
    let text = lines(names);
    context.report("ImageLoad", &loaded, &text)
}

fn build(context: &Context, node: &Node, args: ImageBuildArgs) -> Result<()> {
    let options = BuildOptions {
        dir: args.dir,
        names: args.tags,
        file: args.file,
        build_args: args.build_arg,
        target: args.target,
        no_cache: args.no_cache,
        quiet: context.global.quiet,
    };
    let built = image::build(node, &options, context.progress.as_ref())?;
    let text = lines(&built.names);
    context.report("ImageBuild", &built, &text)
}

fn list(context: &Context, node: &Node) -> Result<()> {
    let images = ImageStore::connect(node)?.images()?;
    context.report("ImageList", &images, &table(&images))
}

/// Returns the table with one line for each name, so that names can be copied into pods.
fn table(images: &[NodeImage]) -> String {
    let mut rows = Vec::new();
    for image in images {
        let mut row = |name: &str, tag: &str| {
            let size = human_bytes(image.size_bytes);
            rows.push([name, tag, image.short_id(), &size].map(str::to_owned));
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
    super::table(["NAME", "TAG", "ID", "SIZE"], rows)
}

fn pull(context: &Context, node: &Node, args: &ImagePullArgs) -> Result<()> {
    let mut store = ImageStore::connect(node)?;
    for name in &args.names {
        let step = context.progress.step(&format!("Pull {name}"));
        store.pull(name)?;
        step.done("");
    }
    let text = lines(&args.names);
    context.report("ImagePull", &json!({"names": args.names}), &text)
}

fn save(context: &Context, node: &Node, args: &ImageSaveArgs) -> Result<()> {
    let size = image::save(node, &args.names, &args.file, context.progress.as_ref())?;
    if args.file == Path::new("-") {
        // Standard output contains the archive and nothing else.
        return Ok(());
    }
    let data = json!({"file": args.file, "sizeBytes": size});
    context.report("ImageSave", &data, &lines([args.file.display()]))
}

fn tag(context: &Context, node: &Node, args: &ImageTagArgs) -> Result<()> {
    let mut store = ImageStore::connect(node)?;
    let images = store.images()?;
    let meant = node::find(&images, &args.source, store.flag())?;
    let id = meant.image.id.clone();
    // In containerd, the ID of an image is also one of its names.
    let source = meant.name.unwrap_or_else(|| id.clone());
    store.tag(&source, &args.name)?;
    store.await_names(&id, std::slice::from_ref(&args.name))?;
    args.name.warn_if_always_pulled(context.progress.as_ref());
    let data = json!({"name": args.name, "id": id});
    context.report("ImageTag", &data, &lines([&args.name]))
}

fn remove(context: &Context, node: &Node, args: &ImageRemoveArgs) -> Result<()> {
    let removed = image::remove(node, &args.names, args.force)?;
    let text = lines(removed.iter().flat_map(|r| {
        let id = r.image_removed.then_some(&r.id);
        r.names.iter().chain(id)
    }));
    context.report("ImageRemove", &removed, &text)
}
