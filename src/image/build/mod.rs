//! Building images in the node: BuildKit runs there and puts what it builds straight into the
//! images that pods run from; its client runs here, reads the folder, and talks to it through a
//! private socket that leads into the node over SSH.

mod plan;

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
use plan::{Plan, arguments, plan};

use crate::cluster::Access;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::interrupt;
use crate::progress::Progress;
use crate::provision::{BUILDKIT_SOCKET, COMPONENTS_DIR};
use crate::remote::{self, Remote, Ssh, Target};
use crate::wait;

/// How long buildkitd may take to answer, with hardware virtualisation.
const BUILDKIT: Duration = Duration::from_secs(30);
/// How the names of the private folders of builds begin.
pub(crate) const PRIVATE: &str = "kubby-build-";
/// The socket in such a folder, on which kubby listens while it builds.
pub(crate) const SOCKET: &str = "buildkit.sock";
/// How many of the last lines an error shows when the build was quiet.
const TAIL_LINES: usize = 30;

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
        .prefix(PRIVATE)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
        .context(Kind::Internal, || "cannot make a private folder".into())?;
    let socket = private.path().join(SOCKET);
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
    let mut said = Vec::new();
    let answer = wait::poll(end, Duration::from_millis(300), || {
        let asked = ssh.run(&ask)?;
        let success = asked.success();
        said = asked.stderr;
        Ok(success.then_some(()))
    })?;
    if answer.is_some() {
        step.done("");
        return Ok(());
    }
    let journal = ssh.run("journalctl -u buildkit -b -n 20 -o cat --no-pager")?;
    let flag = access.profile.name.flag();
    Err(
        Error::new(Kind::Unhealthy, "BuildKit does not answer in the node")
            .with_source(String::from_utf8_lossy(&said).trim().to_owned())
            .with_detail("its journal", journal.text())
            .with_hint(format!("kubby ssh{flag} -- systemctl status buildkit")),
    )
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

fn result_id(path: &Path) -> Result<String> {
    let fail = || "cannot read what BuildKit built".to_owned();
    let text = fs::read(path).context(Kind::Internal, fail)?;
    let value: Value = serde_json::from_slice(&text).context(Kind::Internal, fail)?;
    value["containerimage.config.digest"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::new(Kind::Internal, fail()))
}
