//! `kubby image`: container images in the node.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::image::Reference;

/// Container images in the node.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Bring an image into the node: from an archive, or from docker or podman on this host
    Load(ImageLoadArgs),
    /// Build an image in the node from a Dockerfile or Containerfile
    Build(ImageBuildArgs),
    /// List the images in the node
    #[command(visible_alias = "ls")]
    List,
    /// Let the node pull images from their registries
    Pull(ImagePullArgs),
    /// Write images of the node to an archive
    Save(ImageSaveArgs),
    /// Give an image of the node a further name
    Tag(ImageTagArgs),
    /// Remove names of images, and with the last name the image
    #[command(visible_alias = "rm")]
    Remove(ImageRemoveArgs),
}

/// What `kubby image load` takes.
#[derive(Debug, Args)]
pub struct ImageLoadArgs {
    /// An archive (OCI layout or docker save; plain, gzip, zstd), `-` for standard input, or an
    /// image that docker or podman has on this host
    #[arg(value_name = "FILE|NAME")]
    pub what: String,
    /// Name the image so, whatever the archive calls it (may be repeated)
    #[arg(long = "as", value_name = "NAME", value_parser = tagged)]
    pub names: Vec<Reference>,
}

/// What `kubby image build` takes.
#[derive(Debug, Args)]
pub struct ImageBuildArgs {
    /// The folder with the Dockerfile and what it copies
    pub dir: std::path::PathBuf,
    /// Name of the image (may be repeated)
    #[arg(short, long = "tag", value_name = "NAME", value_parser = tagged)]
    pub tags: Vec<Reference>,
    /// The build file [default: Dockerfile or Containerfile in DIR]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<std::path::PathBuf>,
    /// Set a variable of the build; without a value, the environment's (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Stop at this stage
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Run every step again
    #[arg(long)]
    pub no_cache: bool,
}

/// What `kubby image pull` takes.
#[derive(Debug, Args)]
pub struct ImagePullArgs {
    /// Names, as in a pod
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<Reference>,
}

/// What `kubby image save` takes.
#[derive(Debug, Args)]
pub struct ImageSaveArgs {
    /// Names or ids, as `kubby image list` shows them
    #[arg(required = true, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// The archive to write, compressed if it ends in .gz or .zst; `-` for standard output. As with
    /// docker, -o FILE does the same
    #[arg(long = "file", value_name = "FILE")]
    pub file: std::path::PathBuf,
}

/// What `kubby image tag` takes.
#[derive(Debug, Args)]
pub struct ImageTagArgs {
    /// The name or id that it has
    #[arg(value_name = "SOURCE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub source: String,
    /// The name that it gets as well
    #[arg(value_name = "NAME", value_parser = tagged)]
    pub name: Reference,
}

/// What `kubby image remove` takes.
#[derive(Debug, Args)]
pub struct ImageRemoveArgs {
    /// Names or ids, as `kubby image list` shows them
    #[arg(required = true, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// Remove images that running containers use as well
    #[arg(short, long)]
    pub force: bool,
}

/// A name to give: a digest cannot be given, it follows from the content.
pub(crate) fn tagged(text: &str) -> Result<Reference, String> {
    let name: Reference = text.parse()?;
    match name.digest() {
        None => Ok(name),
        Some(_) => Err("a digest follows from the content; give a name with a tag".into()),
    }
}

/// Lets `-o FILE` name the archive of `kubby image save`, as it does with docker and podman:
/// everywhere else, and for `text` and `json`, `-o` is the format of results.
pub fn save_output(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let args: Vec<OsString> = args.into_iter().collect();
    // What follows is another program's.
    let own = args.iter().position(|arg| arg == "--");
    let own = &args[..own.unwrap_or(args.len())];
    let Some(save) = own.windows(2).position(|w| w == ["image", "save"]) else {
        return args;
    };
    let format = |value: &str| value == "text" || value == "json";
    let mut result = Vec::with_capacity(args.len());
    let mut args = args.into_iter().enumerate().peekable();
    while let Some((place, arg)) = args.next() {
        if place < save {
            result.push(arg);
            continue;
        }
        let text = arg.to_str().unwrap_or_default();
        let joined = text
            .strip_prefix("--output=")
            .or_else(|| text.strip_prefix("-o").filter(|value| !value.is_empty()));
        match joined {
            Some(value) if !format(value) => result.push(format!("--file={value}").into()),
            _ if text == "-o" || text == "--output" => {
                let is_file = args
                    .peek()
                    .is_some_and(|(_, value)| !value.to_str().is_some_and(format));
                result.push(if is_file { "--file".into() } else { arg });
                result.extend(args.next().map(|(_, value)| value));
            }
            _ => result.push(arg),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_save_is_a_file_unless_it_is_a_format() {
        for (given, expected) in [
            (
                "kubby image save a -o b.tar",
                "kubby image save a --file b.tar",
            ),
            (
                "kubby -p x image save -ob.tar a",
                "kubby -p x image save --file=b.tar a",
            ),
            ("kubby image save a -o -", "kubby image save a --file -"),
            (
                "kubby image save a --output=b",
                "kubby image save a --file=b",
            ),
            (
                "kubby image save a -o json -o b",
                "kubby image save a -o json --file b",
            ),
            (
                "kubby -o json image save a --file b",
                "kubby -o json image save a --file b",
            ),
            ("kubby image save a -o", "kubby image save a -o"),
            ("kubby image list -o b", "kubby image list -o b"),
            (
                "kubby run -- docker image save -o b",
                "kubby run -- docker image save -o b",
            ),
        ] {
            let args = save_output(given.split(' ').map(OsString::from));
            let text: Vec<&str> = args.iter().map(|a| a.to_str().unwrap()).collect();
            assert_eq!(text.join(" "), expected);
        }
    }
}
