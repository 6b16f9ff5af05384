//! Building images in the node: BuildKit runs there and puts what it builds straight into the
//! images that pods run from; its client runs here, reads the folder, and talks to it through a
//! private socket that leads into the node over SSH.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::node::Node;
use super::{Reference, pull_policy_warning};
use crate::cluster::Access;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::interrupt;
use crate::progress::Progress;
use crate::provision::{BUILDKIT_SOCKET, COMPONENTS_DIR};
use crate::remote::{self, Remote, Ssh, Target};

/// How long buildkitd may take to answer, with hardware virtualisation.
const BUILDKIT: Duration = Duration::from_secs(30);
/// Names of build files, the first that is there counts.
const BUILD_FILES: [&str; 2] = ["Dockerfile", "Containerfile"];
/// How many of the last lines an error shows when the build was quiet.
const TAIL_LINES: usize = 30;
/// What a build file's first comment may name and BuildKit's own parser does as well, without
/// having to pull it.
const OWN_SYNTAX: &str = "docker/dockerfile";

/// What is to be built.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The folder that the build reads.
    pub dir: PathBuf,
    /// Names of the result.
    pub names: Vec<Reference>,
    /// The build file, where it is not the folder's `Dockerfile` or `Containerfile`.
    pub file: Option<PathBuf>,
    /// `KEY=VALUE`, or `KEY` with the value of the environment variable.
    pub build_args: Vec<String>,
    /// The stage to stop at.
    pub target: Option<String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Show the build's output only when it fails.
    pub quiet: bool,
}

/// What was built.
#[derive(Debug, Clone, Serialize)]
pub struct Built {
    /// Its names.
    pub names: Vec<Reference>,
    /// The digest of its configuration.
    pub id: String,
}

/// Everything that can be checked before the node is asked for anything.
#[derive(Debug)]
struct Plan {
    dir: PathBuf,
    file_dir: PathBuf,
    file_name: OsString,
    own_syntax: bool,
    options: Vec<String>,
}

/// Builds an image in the node.
///
/// # Errors
/// [`Kind::Usage`] for a folder or build file that is not there, and for a build that fails;
/// [`Kind::NodeUnreachable`] when the node does not answer, [`Kind::Unhealthy`] when BuildKit
/// does not start in it.
pub fn build(access: &Access, options: &BuildOptions, progress: &dyn Progress) -> Result<Built> {
    let plan = plan(options)?;
    let buildctl = buildctl(access)?;
    let mut node = Node::connect(access)?;
    start_buildkit(access, node.target(), progress)?;
    let private = tempfile::Builder::new()
        .prefix("kubby-build-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
        .context(Kind::Internal, || "cannot make a private folder".into())?;
    let socket = private.path().join("buildkit.sock");
    let listener = UnixListener::bind(&socket).context(Kind::Internal, || {
        format!("cannot listen on {}", socket.display())
    })?;
    serve(listener, node.target().clone());
    let result = private.path().join("result.json");
    run(&buildctl, &socket, &result, &plan, options)?;
    let id = result_id(&result)?;
    node.await_names(&id, &options.names)?;
    for name in &options.names {
        pull_policy_warning(name, progress);
    }
    Ok(Built {
        names: options.names.clone(),
        id,
    })
}

fn plan(options: &BuildOptions) -> Result<Plan> {
    let shown = options.dir.display();
    if !options.dir.is_dir() {
        let what = if options.dir.exists() {
            "is not a folder"
        } else {
            "does not exist"
        };
        return Err(
            Error::new(Kind::Usage, format!("{shown} {what}")).with_hint(
                "name the folder that holds the Dockerfile: kubby image build DIR -t NAME",
            ),
        );
    }
    if options.names.is_empty() {
        return Err(Error::new(
            Kind::Usage,
            "the image needs a name, since pods call for images by name",
        )
        .with_hint(format!(
            "kubby image build {shown} -t {}:dev",
            suggested_name(&options.dir)
        )));
    }
    let file = match &options.file {
        Some(file) => file.clone(),
        None => BUILD_FILES
            .iter()
            .map(|name| options.dir.join(name))
            .find(|path| path.exists())
            .ok_or_else(|| {
                Error::new(
                    Kind::Usage,
                    format!("there is neither a Dockerfile nor a Containerfile in {shown}"),
                )
                .with_hint("name the build file with -f FILE")
            })?,
    };
    let text = fs::read(&file).context(Kind::Usage, || {
        format!("cannot read the build file {}", file.display())
    })?;
    let file_dir = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok(Plan {
        dir: options.dir.clone(),
        file_dir,
        file_name: file.file_name().unwrap_or_default().to_owned(),
        own_syntax: has_own_syntax(&String::from_utf8_lossy(&text)),
        options: build_args(&options.build_args)?,
    })
}

/// The folder's name as an image may be called.
fn suggested_name(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_default();
    let name = full.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_lowercase();
    match name.parse::<Reference>() {
        Ok(_) if !name.contains([':', '@']) => name,
        _ => "app".to_owned(),
    }
}

/// Whether the `# syntax=` comment names Docker's usual parser in its stable form: BuildKit has
/// it built in, and nodes are often where it cannot be pulled.
fn has_own_syntax(text: &str) -> bool {
    for line in text.trim_start_matches('\u{feff}').lines() {
        let Some(comment) = line.trim().strip_prefix('#') else {
            return false;
        };
        let Some((key, value)) = comment.split_once('=') else {
            return false;
        };
        if !key.trim().eq_ignore_ascii_case("syntax") {
            continue;
        }
        let value = value.trim();
        let value = value.strip_prefix("docker.io/").unwrap_or(value);
        let Some(version) = value.strip_prefix(OWN_SYNTAX) else {
            return false;
        };
        let number = |v: &str| v.split('.').all(|p| p.parse::<u32>().is_ok());
        return match version.strip_prefix(':') {
            None => version.is_empty(),
            Some("latest") => true,
            Some(version) => number(version) && (version == "1" || version.starts_with("1.")),
        };
    }
    false
}

/// `KEY=VALUE` as BuildKit takes it.
fn build_args(args: &[String]) -> Result<Vec<String>> {
    let mut result = Vec::new();
    for arg in args {
        let (key, value) = match arg.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (arg.as_str(), std::env::var(arg).ok()),
        };
        if key.is_empty() {
            return Err(Error::new(
                Kind::Usage,
                format!("`--build-arg {arg}` has no name before the `=`"),
            )
            .with_hint("write it like --build-arg VERSION=1.2"));
        }
        // Without a value anywhere the build file's own default holds, as with docker.
        if let Some(value) = value {
            result.push(format!("build-arg:{key}={value}"));
        }
    }
    Ok(result)
}

/// BuildKit's client of the cluster's components, which lies beside kubectl.
fn buildctl(access: &Access) -> Result<PathBuf> {
    let path = access.profile.assets.kubectl.with_file_name("buildctl");
    if path.is_file() {
        return Ok(path);
    }
    Err(
        Error::new(Kind::Assets, format!("there is no {}", path.display())).with_hint(format!(
            "kubby start{} gets it again; a cluster of an older kubby has to be made anew",
            access.profile.name.flag()
        )),
    )
}

/// Starts BuildKit in the node and waits until it answers.
fn start_buildkit(access: &Access, target: &Target, progress: &dyn Progress) -> Result<()> {
    let mut ssh = Ssh::connect(target, BUILDKIT)?;
    let ask = format!(
        "{COMPONENTS_DIR}/bin/buildctl --addr unix://{BUILDKIT_SOCKET} debug workers >/dev/null"
    );
    if ssh
        .run(&format!("test -S {BUILDKIT_SOCKET} && {ask}"))?
        .success()
    {
        return Ok(());
    }
    let step = progress.step("Start BuildKit in the node");
    ssh.run("systemctl start buildkit")?
        .require("starting BuildKit")?;
    let end = Instant::now() + access.deadline(BUILDKIT);
    loop {
        let asked = ssh.run(&ask)?;
        if asked.success() {
            step.done("");
            return Ok(());
        }
        if Instant::now() >= end {
            let journal = ssh.run("journalctl -u buildkit -b -n 20 -o cat --no-pager")?;
            let flag = access.profile.name.flag();
            return Err(
                Error::new(Kind::Unhealthy, "BuildKit does not answer in the node")
                    .with_source(String::from_utf8_lossy(&asked.stderr).trim().to_owned())
                    .with_detail("its journal", journal.text())
                    .with_hint(format!("kubby ssh{flag} -- systemctl status buildkit")),
            );
        }
        interrupt::sleep(Duration::from_millis(300))?;
    }
}

/// Leads every connection into the node, each over an SSH connection of its own. Ends with the
/// process; what goes wrong shows as a connection that breaks, which BuildKit's client reports.
fn serve(listener: UnixListener, target: Target) {
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(std::io::Result::ok) {
            let target = target.clone();
            std::thread::spawn(move || {
                let command = format!(
                    "exec {COMPONENTS_DIR}/bin/buildctl --addr unix://{BUILDKIT_SOCKET} dial-stdio"
                );
                let _ = remote::bridge(&target, &command, &socket);
                let _ = socket.shutdown(std::net::Shutdown::Both);
            });
        }
    });
}

fn run(
    buildctl: &Path,
    socket: &Path,
    result: &Path,
    plan: &Plan,
    options: &BuildOptions,
) -> Result<()> {
    let mut command = Command::new(buildctl);
    command.args(arguments(socket, result, plan, options));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    if options.quiet {
        // A group of its own would keep Ctrl-C from it, which it handles well by itself.
        command.stderr(Stdio::piped());
    }
    command.arg0("buildctl");
    let mut child = command.spawn().context(Kind::Assets, || {
        format!("cannot run {}", buildctl.display())
    })?;
    let output = child.stderr.take().map(|stderr| {
        std::thread::spawn(move || {
            let mut lines = std::collections::VecDeque::new();
            for line in BufReader::new(stderr)
                .lines()
                .map_while(std::io::Result::ok)
            {
                if lines.len() == TAIL_LINES {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
            Vec::from(lines).join("\n")
        })
    });
    let success = wait(&mut child)?;
    let said = output.map(|o| o.join().unwrap_or_default());
    if success {
        return Ok(());
    }
    let what = plan.dir.display();
    Err(
        Error::new(Kind::Usage, format!("the build of {what} failed"))
            .with_detail("its last lines", said.unwrap_or_default())
            .with_hint("what the node cannot pull can be brought to it: kubby image load NAME"),
    )
}

fn wait(child: &mut Child) -> Result<bool> {
    loop {
        let status = child
            .try_wait()
            .context(Kind::Internal, || "cannot wait for buildctl".into())?;
        if let Some(status) = status {
            interrupt::check()?;
            return Ok(status.success());
        }
        if let Err(e) = interrupt::sleep(Duration::from_millis(50)) {
            // Ctrl-C reached it as well; after a SIGTERM to kubby alone it has to be told.
            let _ = child.kill();
            let _ = child.wait();
            return Err(e);
        }
    }
}

fn arguments(socket: &Path, result: &Path, plan: &Plan, options: &BuildOptions) -> Vec<OsString> {
    let joined = |key: &str, value: &OsStr| {
        let mut text = OsString::from(key);
        text.push(value);
        text
    };
    let names: Vec<String> = options.names.iter().map(ToString::to_string).collect();
    let mut args: Vec<OsString> = vec![
        "--addr".into(),
        joined("unix://", socket.as_os_str()),
        "build".into(),
        "--frontend".into(),
        "dockerfile.v0".into(),
        "--local".into(),
        joined("context=", plan.dir.as_os_str()),
        "--local".into(),
        joined("dockerfile=", plan.file_dir.as_os_str()),
        "--opt".into(),
        joined("filename=", &plan.file_name),
        // An image that the node has is taken as it is, also where no registry can be asked.
        "--opt".into(),
        "image-resolve-mode=local".into(),
        "--output".into(),
        format!("type=image,\"name={}\",unpack=true", names.join(",")).into(),
        "--metadata-file".into(),
        result.into(),
        "--progress".into(),
        if options.quiet { "plain" } else { "auto" }.into(),
    ];
    let mut option = |text: String| args.extend(["--opt".into(), text.into()]);
    plan.options.iter().cloned().for_each(&mut option);
    if let Some(target) = &options.target {
        option(format!("target={target}"));
    }
    if plan.own_syntax {
        // What a parser that was pulled would be told; it keeps the built-in one from pulling.
        option(format!("cmdline={OWN_SYNTAX}:1"));
    }
    if options.no_cache {
        args.push("--no-cache".into());
    }
    args
}

fn result_id(path: &Path) -> Result<String> {
    let fail = || "cannot read what BuildKit built".to_owned();
    let text = fs::read(path).context(Kind::Internal, fail)?;
    let value: Value = serde_json::from_slice(&text).context(Kind::Internal, fail)?;
    value["containerimage.config.digest"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::new(Kind::Internal, fail()))
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
    fn the_client_is_told_everything() {
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
