//! The command line of `kubby image`.

use clap::{Args, Subcommand};

use crate::image::Reference;

/// The commands of `kubby image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Load an image from an archive, or from Docker or Podman on this host
    Load(ImageLoadArgs),
    /// Build an image on the node from a Dockerfile or Containerfile
    Build(ImageBuildArgs),
    /// List the images on the node
    #[command(visible_alias = "ls")]
    List,
    /// Pull images on the node
    Pull(ImagePullArgs),
    /// Save images to an archive
    Save(ImageSaveArgs),
    /// Add a name to an image
    Tag(ImageTagArgs),
    /// Remove names of images; an image without names is deleted
    #[command(visible_alias = "rm")]
    Remove(ImageRemoveArgs),
}

/// The arguments of `kubby image load`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  kubby image load app.tar
  kubby image load app:1                         from Docker or Podman
  docker image save app:1 | kubby image load -")]
pub struct ImageLoadArgs {
    /// An archive (OCI layout or docker save; plain, gzip or zstd), `-` for standard input, or the
    /// name of an image in Docker or Podman on this host
    #[arg(value_name = "FILE|NAME")]
    pub what: String,
    /// Use this name instead of the one in the archive (may be repeated)
    #[arg(long = "as", value_name = "NAME", value_parser = tagged)]
    pub names: Vec<Reference>,
}

/// The arguments of `kubby image build`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  kubby image build . -t app:1
  kubby image build ./app -t app:2 --build-arg VERSION=2 --target release")]
pub struct ImageBuildArgs {
    /// Folder with the Dockerfile and the files that it copies
    pub dir: std::path::PathBuf,
    /// Name of the image (may be repeated)
    #[arg(short, long = "tag", value_name = "NAME", value_parser = tagged)]
    pub tags: Vec<Reference>,
    /// Build file [default: Dockerfile or Containerfile in DIR]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<std::path::PathBuf>,
    /// Set a build argument; without VALUE, take it from the environment (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Build up to this stage only
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Run all steps again, without the cache
    #[arg(long)]
    pub no_cache: bool,
}

/// The arguments of `kubby image pull`.
#[derive(Debug, Args)]
pub struct ImagePullArgs {
    /// Names as in a pod
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<Reference>,
}

/// The arguments of `kubby image save`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  kubby image save app:1 -f app.tar.gz
  kubby image save app:1 -f - | docker load")]
pub struct ImageSaveArgs {
    /// Names or IDs as shown by `kubby image list`
    #[arg(required = true, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// Archive to write (compressed if it ends in .gz or .zst), or `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    pub file: std::path::PathBuf,
}

/// The arguments of `kubby image tag`.
#[derive(Debug, Args)]
pub struct ImageTagArgs {
    /// Present name or ID of the image
    #[arg(value_name = "SOURCE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub source: String,
    /// Name to add
    #[arg(value_name = "NAME", value_parser = tagged)]
    pub name: Reference,
}

/// The arguments of `kubby image remove`.
#[derive(Debug, Args)]
pub struct ImageRemoveArgs {
    /// Names or IDs as shown by `kubby image list`
    #[arg(required = true, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// Also remove images that running containers use
    #[arg(short, long)]
    pub force: bool,
}

/// Parses a name to give to an image. It cannot have a digest, which follows from the content.
pub(crate) fn tagged(text: &str) -> Result<Reference, String> {
    let name: Reference = text.parse()?;
    match name.digest() {
        None => Ok(name),
        Some(_) => Err("a digest follows from the content; give a name with a tag".into()),
    }
}
