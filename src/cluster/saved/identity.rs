//! The identity and the clock of a node that resumed from saved memory: a copy of a cluster begins with
//! the keys of the original, and gets its own before anything else is done with it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::{Machine, keys};
use crate::error::{Kind, Result};
use crate::pki::Pki;
use crate::profile::NodeProfile;
use crate::provision::{self, Wanted};
use crate::remote::{NodeFile, Remote, quote};
use crate::role::Role;
use crate::store::ProfileDir;
use crate::trace;

/// The limit for one SSH attempt while it is not known which keys the node has.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(5);

/// Makes the SSH server read its keys again. While it does so, no file says which process it is.
const RELOAD: &str = "\
for _ in 1 2 3 4 5 6 7 8 9 10; do
    read -r pid < /run/sshd.pid && break
    sleep 0.2
done 2>/dev/null
kill -HUP \"$pid\"
";

/// The limit for a node that just resumed to run a script from its channel.
const CHANNEL_LIMIT: Duration = Duration::from_secs(2);

/// A script that sets the clock and ends within this time has set it right.
const PROMPT: Duration = Duration::from_secs(1);

/// The maximum number of attempts to set the clock.
const CLOCK_ATTEMPTS: usize = 4;

/// Sends a node that resumed from saved memory the time and, if it is a copy, its own identity, before
/// anything else is asked of it. Returns `false` if the node does not listen: then SSH does the same,
/// which takes longer.
///
/// # Errors
/// [`Kind::State`] when a key is missing, [`Kind::Interrupted`] on Ctrl-C.
pub(crate) fn send(
    machine: &Machine<'_>,
    cluster: &Cluster,
    node: &NodeProfile,
    pki: Option<&Pki>,
    wanted: &Wanted,
) -> Result<bool> {
    let dir = cluster.node_dir(node);
    let _span = trace::span("send the node its identity");
    // With the shell's own means, since each process takes the node a while. The files exist already,
    // so their modes stay.
    let write = |file: &NodeFile| {
        let content = String::from_utf8_lossy(&file.content);
        format!("printf %s {} > {}\n", quote(&content), quote(&file.path))
    };
    let is_copy = dir.handover().exists();
    let mut script = String::from("umask 077\n");
    if let Some(pki) = pki.filter(|_| is_copy && node.role == Role::ControlPlane) {
        // First of all, since kube-apiserver needs a moment to notice that they are new.
        script.extend(provision::operator_files(pki).iter().map(write));
    }
    script += &clock_script();
    script.push('\n');
    if let Some((files, command)) = provision::peers_of(wanted) {
        // The others have new keys and ports.
        script.extend(files.into_iter().map(write));
        script += &format!("{command}\n");
    }
    if is_copy {
        script.extend(keys::files(&dir)?.iter().map(write));
        script += RELOAD;
    }
    run_on_channel(machine, cluster, script)
}

/// Runs a script that sets the clock over the channel, and sets the clock again where the script may
/// have been old when the node ran it, as on a crowded host. Returns `false` if the node does not
/// listen.
fn run_on_channel(machine: &Machine<'_>, cluster: &Cluster, mut script: String) -> Result<bool> {
    let limit = cluster.deadline(CHANNEL_LIMIT);
    for _ in 0..CLOCK_ATTEMPTS {
        let began = Instant::now();
        match machine
            .host
            .libvirt()
            .run_script(&machine.channel(), &script, limit)
        {
            Ok(()) if began.elapsed() <= PROMPT => return Ok(true),
            Ok(()) => script = clock_script(),
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Sets the clock of a node that was paused for a moment. If the node does not listen, its clock is
/// slow by that moment until its next start.
pub(crate) fn correct_clock(env: &Env<'_>, machine: &Machine<'_>, cluster: &Cluster, node: usize) {
    let node = &cluster.profile.nodes[node];
    if matches!(run_on_channel(machine, cluster, clock_script()), Ok(true)) {
        return;
    }
    let by_ssh = || -> Result<()> {
        let target = cluster.target_with(node, &keys_of_node(cluster, node))?;
        let mut node = env.backend.connect(&target, cluster.deadline(ATTEMPT))?;
        set_clock(node.as_mut())
    };
    let _ = by_ssh();
}

/// Installs the files of an identity, makes the SSH server read its keys again, and sets the clock.
///
/// # Errors
/// [`Kind::Unhealthy`] when the node cannot, [`Kind::NodeUnreachable`] when SSH breaks.
pub(crate) fn install(node: &mut dyn Remote, files: &[NodeFile]) -> Result<()> {
    node.push(files)?;
    let script = format!("{}\n{RELOAD}", clock_script());
    node.run(&script)?
        .require("installing the node's own identity")
        .map(drop)
}

/// Sets the node's clock to the host's: it stood still while its memory was in a file.
///
/// # Errors
/// As [`install`].
pub(crate) fn set_clock(node: &mut dyn Remote) -> Result<()> {
    for _ in 0..CLOCK_ATTEMPTS {
        let began = Instant::now();
        node.run(&clock_script())?
            .require("setting the node's clock")?;
        if began.elapsed() <= PROMPT {
            break;
        }
    }
    Ok(())
}

/// Returns the command that sets the clock; it reaches the node within milliseconds.
fn clock_script() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "date -u -s @{}.{:03} >/dev/null",
        now.as_secs(),
        now.subsec_millis()
    )
}

/// Returns the folder with the keys that the node has now: its own, unless it is a copy that has not
/// received them.
pub(crate) fn keys_of_node(cluster: &Cluster, node: &NodeProfile) -> ProfileDir {
    let dir = cluster.node_dir(node);
    let borrowed = ProfileDir::at(dir.handover());
    if borrowed.root().exists() {
        borrowed
    } else {
        dir
    }
}
