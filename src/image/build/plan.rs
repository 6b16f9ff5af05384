//! The plan of a build, checked before the node is used, and the arguments of BuildKit's client.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::image::reference::{Reference, tagged};

/// The names of build files; the first that exists counts.
const BUILD_FILES: [&str; 2] = ["Dockerfile", "Containerfile"];
/// The parser that a build file's first comment may name and BuildKit has built in, so that it need
/// not be pulled.
const OWN_SYNTAX: &str = "docker/dockerfile";

/// The arguments of `kubby image build`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  kubby image build . -t app:1
  kubby image build ./app -t app:2 --build-arg VERSION=2 --target release")]
pub struct BuildOptions {
    /// Folder with the Dockerfile and the files that it copies
    pub dir: PathBuf,
    /// Name of the image (may be repeated)
    #[arg(short = 't', long = "tag", value_name = "NAME", value_parser = tagged)]
    pub names: Vec<Reference>,
    /// Build file [default: Dockerfile or Containerfile in DIR]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Set a build argument; without VALUE, take it from the environment (may be repeated)
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    pub build_args: Vec<String>,
    /// Build up to this stage only
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Run all steps again, without the cache
    #[arg(long)]
    pub no_cache: bool,
    /// Whether the build's output is shown only when it fails.
    #[arg(skip)]
    pub quiet: bool,
}

/// The checked input of a build.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    file_dir: PathBuf,
    file_name: OsString,
    own_syntax: bool,
    options: Vec<String>,
}

pub(super) fn plan(options: &BuildOptions) -> Result<Plan> {
    let shown = options.dir.display();
    if !options.dir.is_dir() {
        let what = if options.dir.exists() {
            "is not a folder"
        } else {
            "does not exist"
        };
        return Err(Error::usage(format!("{shown} {what}")).with_hint(
            "name the folder that holds the Dockerfile: kubby image build DIR -t NAME",
        ));
    }
    if options.names.is_empty() {
        let name = suggested_name(&options.dir);
        return Err(
            Error::usage("the image needs a name, since pods refer to images by name")
                .with_hint(format!("kubby image build {shown} -t {name}:dev")),
        );
    }
    let file = match &options.file {
        Some(file) => file.clone(),
        None => BUILD_FILES
            .iter()
            .map(|name| options.dir.join(name))
            .find(|path| path.exists())
            .ok_or_else(|| {
                let what = "neither a Dockerfile nor a Containerfile";
                Error::usage(format!("there is {what} in {shown}"))
                    .with_hint("name the build file with -f FILE")
            })?,
    };
    let text = fs::read(&file).context(Kind::Usage, || {
        format!("cannot read the build file {}", file.display())
    })?;
    Ok(Plan {
        dir: options.dir.clone(),
        file_dir: fsutil::folder_of(&file).to_owned(),
        file_name: file.file_name().unwrap_or_default().to_owned(),
        own_syntax: has_own_syntax(&String::from_utf8_lossy(&text)),
        options: build_args(&options.build_args)?,
    })
}

/// Returns the folder's name as the name of an image.
fn suggested_name(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_default();
    let name = full.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_lowercase();
    match name.parse::<Reference>() {
        Ok(_) if !name.contains([':', '@']) => name,
        _ => "app".to_owned(),
    }
}

/// Returns whether the `# syntax=` comment names Docker's usual parser in its stable form: BuildKit
/// has it built in, and many nodes cannot pull it.
fn has_own_syntax(text: &str) -> bool {
    for line in text.trim_start_matches('\u{feff}').lines() {
        let comment = line.trim().strip_prefix('#');
        let Some((key, value)) = comment.and_then(|comment| comment.split_once('=')) else {
            return false;
        };
        if key.trim().eq_ignore_ascii_case("syntax") {
            let value = value.trim();
            let value = value.strip_prefix("docker.io/").unwrap_or(value);
            let (name, version) = value.split_once(':').unwrap_or((value, "latest"));
            let is_number = |part: &str| part.parse::<u32>().is_ok();
            let is_first = version.split('.').next() == Some("1");
            let is_stable = is_first && version.split('.').all(is_number);
            return name == OWN_SYNTAX && (version == "latest" || is_stable);
        }
    }
    false
}

/// Returns the build arguments as BuildKit takes them.
fn build_args(args: &[String]) -> Result<Vec<String>> {
    let mut result = Vec::new();
    for arg in args {
        let (key, value) = match arg.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (arg.as_str(), std::env::var(arg).ok()),
        };
        if key.is_empty() {
            let message = format!("`--build-arg {arg}` has no name before the `=`");
            return Err(Error::usage(message).with_hint("write it like --build-arg VERSION=1.2"));
        }
        // Without a value anywhere the build file's own default is used, as with docker.
        if let Some(value) = value {
            result.push(format!("build-arg:{key}={value}"));
        }
    }
    Ok(result)
}

pub(super) fn arguments(
    socket: &Path,
    result: &Path,
    plan: &Plan,
    options: &BuildOptions,
) -> Vec<OsString> {
    let joined = |key: &str, value: &OsStr| {
        let mut text = OsString::from(key);
        text.push(value);
        text
    };
    let names: Vec<String> = options.names.iter().map(ToString::to_string).collect();
    let output = format!("type=image,\"name={}\",unpack=true", names.join(","));
    let progress = if options.quiet { "plain" } else { "auto" };
    let mut args: Vec<OsString> = vec![
        "--addr".into(),
        joined("unix://", socket.as_os_str()),
        "build".into(),
    ];
    let mut add = |option: &str, value: OsString| args.extend([option.into(), value]);
    add("--frontend", "dockerfile.v0".into());
    add("--local", joined("context=", plan.dir.as_os_str()));
    add("--local", joined("dockerfile=", plan.file_dir.as_os_str()));
    add("--opt", joined("filename=", &plan.file_name));
    // An image that the node has is used unchanged, also where no registry can be reached.
    add("--opt", "image-resolve-mode=local".into());
    add("--output", output.into());
    add("--metadata-file", result.into());
    add("--progress", progress.into());
    for option in &plan.options {
        add("--opt", option.into());
    }
    if let Some(target) = &options.target {
        add("--opt", format!("target={target}").into());
    }
    if plan.own_syntax {
        // The option of a pulled parser; it keeps the built-in one from pulling.
        add("--opt", format!("cmdline={OWN_SYNTAX}:1").into());
    }
    if options.no_cache {
        args.push("--no-cache".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: &Path) -> BuildOptions {
        BuildOptions {
            dir: dir.to_owned(),
            names: vec!["app:1".parse().unwrap(), "me/app:2".parse().unwrap()],
            file: None,
            build_args: vec!["A=b=c".into(), "KUBBY_NO_SUCH_VARIABLE".into()],
            target: Some("last".into()),
            no_cache: true,
            quiet: false,
        }
    }

    #[test]
    fn the_client_gets_all_options() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Containerfile"), "FROM scratch\n").unwrap();
        let options = options(dir.path());
        let plan = plan(&options).unwrap();
        let args = arguments(Path::new("/s"), Path::new("/r"), &plan, &options);
        let text: Vec<&str> = args.iter().map(|a| a.to_str().unwrap()).collect();
        let text = text.join(" ");
        for part in [
            "--addr unix:///s build",
            "--opt filename=Containerfile",
            "--opt image-resolve-mode=local",
            "--output type=image,\"name=docker.io/library/app:1,docker.io/me/app:2\",unpack=true",
            "--opt build-arg:A=b=c --opt target=last",
            "--no-cache",
        ] {
            assert!(text.contains(part), "no `{part}` in {text}");
        }
        assert!(!text.contains("NO_SUCH") && !text.contains("cmdline"));
    }

    #[test]
    fn bad_input_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |options: &BuildOptions, words: &str| {
            let e = plan(options).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage);
            assert!(e.message().contains(words), "{e}");
        };
        let good = options(dir.path());
        refused(&good, "neither a Dockerfile nor a Containerfile");
        let file = dir.path().join("Dockerfile");
        fs::write(&file, "FROM scratch\n").unwrap();
        plan(&good).unwrap();
        refused(&options(&file), "is not a folder");
        refused(&options(&dir.path().join("no")), "does not exist");
        let mut bad = good.clone();
        bad.names.clear();
        refused(&bad, "needs a name");
        let mut bad = good.clone();
        bad.build_args = vec!["=1".into()];
        refused(&bad, "no name before");
        let mut bad = good;
        bad.file = Some(dir.path().join("other"));
        refused(&bad, "cannot read the build file");
    }

    #[test]
    fn a_name_is_suggested_from_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, name) in [("My-App", "my-app"), ("a b", "app"), ("x:1", "app")] {
            let path = dir.path().join(folder);
            fs::create_dir(&path).unwrap();
            assert_eq!(suggested_name(&path), name, "{folder}");
        }
    }

    #[test]
    fn only_the_usual_parser_is_replaced_by_the_built_in_one() {
        for (text, own) in [
            ("# syntax=docker/dockerfile:1\nFROM x", true),
            ("#syntax = docker.io/docker/dockerfile:1.7\nFROM x", true),
            ("# escape=`\n# syntax=docker/dockerfile\nFROM x", true),
            ("# syntax=docker/dockerfile:1-labs\nFROM x", false),
            ("# syntax=docker/dockerfile:2\nFROM x", false),
            ("# syntax=docker/dockerfile-upstream:master\nFROM x", false),
            ("# syntax=me/frontend\nFROM x", false),
            ("FROM x\n# syntax=docker/dockerfile:1\n", false),
            ("# a comment\n# syntax=docker/dockerfile:1\nFROM x", false),
            ("", false),
        ] {
            assert_eq!(has_own_syntax(text), own, "{text}");
        }
    }
}
