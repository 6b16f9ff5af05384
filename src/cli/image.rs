//! The command line of `kubby image`.

use std::path::PathBuf;

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use crate::image::BuildOptions;
use crate::image::reference::{Reference, tagged};

/// The commands of `kubby image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Load an image from an archive, or from Docker or Podman on this host
    #[command(after_long_help = "\
Examples:
  kubby image load app.tar
  kubby image load app:1                         from Docker or Podman
  docker image save app:1 | kubby image load -")]
    Load {
        /// An archive (OCI layout or docker save; plain, gzip or zstd), `-` for standard input, or the
        /// name of an image in Docker or Podman on this host
        #[arg(value_name = "FILE|NAME")]
        what: String,
        /// Use this name instead of the one in the archive (may be repeated)
        #[arg(long = "as", value_name = "NAME", value_parser = tagged)]
        names: Vec<Reference>,
    },
    /// Build an image on the node from a Dockerfile or Containerfile
    Build(BuildOptions),
    /// List the images on the node
    #[command(visible_alias = "ls")]
    List,
    /// Pull images on the node
    Pull {
        /// Names as in a pod
        #[arg(required = true, value_name = "NAME")]
        names: Vec<Reference>,
    },
    /// Save images to an archive
    #[command(after_long_help = "\
Examples:
  kubby image save app:1 -f app.tar.gz
  kubby image save app:1 -f - | docker load")]
    Save {
        /// Names or IDs as shown by `kubby image list`
        #[arg(required = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        names: Vec<String>,
        /// Archive to write (compressed if it ends in .gz or .zst), or `-` for standard output
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Add a name to an image
    Tag {
        /// Present name or ID of the image
        #[arg(value_name = "SOURCE", value_parser = NonEmptyStringValueParser::new())]
        source: String,
        /// Name to add
        #[arg(value_name = "NAME", value_parser = tagged)]
        name: Reference,
    },
    /// Remove names of images; an image without names is deleted
    #[command(visible_alias = "rm")]
    Remove {
        /// Names or IDs as shown by `kubby image list`
        #[arg(required = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        names: Vec<String>,
        /// Also remove images that running containers use
        #[arg(short, long)]
        force: bool,
    },
}
