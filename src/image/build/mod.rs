//! Builds images in the node: BuildKit runs there and puts the result straight into the images that
//! pods run from; its client runs on the host, reads the folder, and reaches BuildKit through a
//! private socket that is forwarded into the node over SSH.

mod plan;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::node::{self, ImageStore};
use super::reference::Reference;
use crate::cluster::node::Node;
use plan::{Plan, arguments, plan};

pub(crate) use plan::BuildOptions;

use crate::error::{Error, Kind, Result, ResultExt};
use crate::interrupt;
use crate::progress::Progress;
use crate::provision::{BUILDKIT_SOCKET, COMPONENTS_DIR};
use crate::remote::{self, Remote, Ssh, Target};
use crate::wait;

/// The time limit of the SSH connection.
const CONNECT: Duration = Duration::from_secs(30);
/// The beginning of the names of the private folders of builds.
pub(crate) const PRIVATE: &str = "kubby-build-";
/// The socket in such a folder, on which kubby listens while it builds.
pub(crate) const SOCKET: &str = "buildkit.sock";
/// The number of last lines that the error about a quiet build shows.
const TAIL_LINES: usize = 30;

/// The result of a build.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Built {
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
pub(crate) fn build(node: &Node, options: &BuildOptions, progress: &dyn Progress) -> Result<Built> {
    let plan = plan(options)?;
    let buildctl = node::buildctl(node)?;
    let mut store = ImageStore::connect(node)?;
    start_buildkit(&store, progress)?;
    let private = tempfile::Builder::new()
        .prefix(PRIVATE)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
        .context(Kind::Internal, || "cannot make a private folder".into())?;
    let socket = private.path().join(SOCKET);
    let listener = UnixListener::bind(&socket).context(Kind::Internal, || {
        format!("cannot listen on {}", socket.display())
    })?;
    serve(listener, store.target.clone());
    let result = private.path().join("result.json");
    run(&buildctl, &socket, &result, &plan, options)?;
    let id = result_id(&result)?;
    store.await_names(&id, &options.names)?;
    store.record(&options.names)?;
    for name in &options.names {
        name.warn_if_always_pulled(progress);
    }
    Ok(Built {
        names: options.names.clone(),
        id,
    })
}

/// Starts BuildKit in the node and waits until it answers.
fn start_buildkit(store: &ImageStore, progress: &dyn Progress) -> Result<()> {
    let mut ssh = Ssh::connect(&store.target, CONNECT)?;
    let ask = format!(
        "{COMPONENTS_DIR}/bin/buildctl --addr unix://{BUILDKIT_SOCKET} debug workers >/dev/null"
    );
    let runs = ssh.run(&format!("test -S {BUILDKIT_SOCKET} && {ask}"))?;
    if runs.success() {
        return Ok(());
    }
    let step = progress.step("Start BuildKit in the node");
    let started = ssh.run("systemctl start buildkit")?;
    started.require("starting BuildKit")?;
    let end = Instant::now() + store.limit;
    let mut said = String::new();
    let answer = wait::poll(end, Duration::from_millis(300), || {
        let asked = ssh.run(&ask)?;
        said = node::errors_of(&asked);
        Ok(asked.success().then_some(()))
    })?;
    if answer.is_some() {
        step.done("");
        return Ok(());
    }
    let journal = ssh.run("journalctl -u buildkit -b -n 20 -o cat --no-pager")?;
    let hint = format!("kubby ssh{} -- systemctl status buildkit", store.flag);
    Err(Error::unhealthy("BuildKit does not answer in the node")
        .with_source(said.trim())
        .with_detail("its journal", journal.text())
        .with_hint(hint))
}

/// Forwards every connection into the node, each over an SSH connection of its own, until the process
/// ends. BuildKit's client reports a connection that breaks.
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
        // It stays in kubby's process group, so that Ctrl-C reaches it, which it handles itself.
        command.stderr(Stdio::piped());
    }
    command.arg0("buildctl");
    let mut child = command.spawn().context(Kind::Assets, || {
        format!("cannot run {}", buildctl.display())
    })?;
    let output = child.stderr.take().map(|stderr| {
        std::thread::spawn(move || {
            let mut last = std::collections::VecDeque::new();
            let lines = BufReader::new(stderr).lines();
            for line in lines.map_while(std::io::Result::ok) {
                if last.len() == TAIL_LINES {
                    last.pop_front();
                }
                last.push_back(line);
            }
            Vec::from(last).join("\n")
        })
    });
    let success = wait(&mut child)?;
    let said = output.map(|o| o.join().unwrap_or_default());
    if success {
        return Ok(());
    }
    let what = plan.dir.display();
    Err(Error::usage(format!("the build of {what} failed"))
        .with_detail("its last lines", said.unwrap_or_default())
        .with_hint("load images that the node cannot pull from this host: kubby image load NAME"))
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
            // Ctrl-C reached it as well, but a SIGTERM to kubby alone did not.
            let _ = child.kill();
            let _ = child.wait();
            return Err(e);
        }
    }
}

fn result_id(path: &Path) -> Result<String> {
    let fail = || "cannot read BuildKit's result".to_owned();
    let text = fs::read(path).context(Kind::Internal, fail)?;
    let value: Value = serde_json::from_slice(&text).context(Kind::Internal, fail)?;
    value["containerimage.config.digest"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::internal(fail()))
}
