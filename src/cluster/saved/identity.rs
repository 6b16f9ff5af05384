//! Who a node is: a copy of a cluster begins with the keys of the original, and gets its own
//! before anything else is done with it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cluster::Access;
use crate::cluster::machine::resources;
use crate::cluster::machine::resources::Names;
use crate::cluster::machine::watch::{self, Watcher};
use crate::error::{Kind, Result, ResultExt};
use crate::fsutil;
use crate::hypervisor::Hypervisor;
use crate::interrupt;
use crate::pki::Pki;
use crate::progress::Step;
use crate::provision;
use crate::remote::{NodeFile, Remote, Ssh, Target, quote};
use crate::store::ProfileDir;
use crate::trace;

/// How long one attempt may take while it is not known which keys the node has.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(50);

/// Waits until the node answers over SSH; a node that is a copy is given its own identity on the
/// way, and one whose clock stood still is told the time.
///
/// # Errors
/// As [`watch::connect`].
pub fn connect(
    access: &Access,
    pki: &Pki,
    watcher: &mut Watcher<'_>,
    limit: Duration,
    step: &Step,
) -> Result<Ssh> {
    let own = access.target()?;
    let borrowed = ProfileDir::at(access.dir.handover());
    if !borrowed.root().exists() {
        return watch::connect(&own, watcher, limit, step);
    }
    let original = access.target_with(&borrowed)?;
    // A node whose keys were written, but which was cut short before it had read its own.
    let between = Target {
        host_key: original.host_key.clone(),
        ..own.clone()
    };
    let attempt = access.deadline(ATTEMPT);
    let until = Instant::now() + limit;
    loop {
        for (target, knows_itself) in [(&original, false), (&own, true), (&between, false)] {
            match Ssh::connect(target, attempt) {
                Ok(ssh) => {
                    let mut ssh = ssh.heading_for(own.clone());
                    if !knows_itself {
                        let mut files = resources::ssh_identity(&access.dir)?.to_vec();
                        files.extend(provision::operator_files(pki));
                        hand_over(&mut ssh, &files)?;
                    }
                    fsutil::remove_all(borrowed.root())?;
                    watcher.reached();
                    return Ok(ssh);
                }
                Err(e) if e.kind() == Kind::Interrupted => return Err(e),
                Err(e) if Instant::now() >= until => return Err(watcher.explain(e)),
                Err(_) => {}
            }
        }
        watcher.look()?;
    }
}

/// Connects to a node whose SSH server may still be reading the keys that it was given.
///
/// # Errors
/// [`Kind::NodeUnreachable`] when it does not answer with them within `limit`,
/// [`Kind::Interrupted`] on Ctrl-C.
pub fn connect_when_read(target: &Target, limit: Duration) -> Result<Ssh> {
    let until = Instant::now() + limit;
    loop {
        match Ssh::connect(target, limit) {
            Err(e) if e.kind() == Kind::Interrupted || Instant::now() >= until => return Err(e),
            Err(_) => interrupt::sleep(RETRY)?,
            connected => return connected,
        }
    }
}

/// Lets the SSH server read its keys anew. While it does so it has no file that says where it is.
const RELOAD: &str = "\
for _ in 1 2 3 4 5 6 7 8 9 10; do
    read -r pid < /run/sshd.pid && break
    sleep 0.2
done 2>/dev/null
kill -HUP \"$pid\"
";

/// How long a node that just woke may take to do what it hears through its channel.
const CHANNEL: Duration = Duration::from_secs(2);

/// An answer that comes within this time was about the right time.
const PROMPT: Duration = Duration::from_secs(1);

/// How often the time is told at the most.
const TELLINGS: usize = 4;

/// Tells a node that woke from saved memory what time it is and, where it is a copy, who it is,
/// before anything else is asked of it. Returns `false` where it does not hear: then SSH does the
/// same, which takes longer.
///
/// # Errors
/// [`Kind::State`] when a key is missing, [`Kind::Interrupted`] on Ctrl-C.
pub fn introduce(
    hypervisor: &dyn Hypervisor,
    names: &Names,
    access: &Access,
    pki: &Pki,
) -> Result<bool> {
    let _span = trace::span("tell the node who it is");
    // By the shell's own means: each process takes the waking node a while. The files are there
    // already, so their modes stay.
    let write = |file: &NodeFile| {
        let content = String::from_utf8_lossy(&file.content);
        format!("printf %s {} > {}\n", quote(&content), quote(&file.path))
    };
    let is_copy = access.dir.handover().exists();
    let mut script = String::from("umask 077\n");
    if is_copy {
        // First of all, since kube-apiserver takes a moment to see that they are new.
        script.extend(provision::operator_files(pki).iter().map(write));
    }
    script += &set_clock();
    script.push('\n');
    if is_copy {
        let identity = resources::ssh_identity(&access.dir)?;
        script.extend(identity.iter().map(write));
        script += RELOAD;
    }
    tell(hypervisor, names, access, script)
}

/// Sends a script that sets the clock through the channel, and the time alone again where it may
/// have been old when the node heard it, as on a crowded host. Returns `false` where nobody hears.
fn tell(
    hypervisor: &dyn Hypervisor,
    names: &Names,
    access: &Access,
    mut script: String,
) -> Result<bool> {
    let limit = access.deadline(CHANNEL);
    let channel = names.target.join(&names.channel);
    for _ in 0..TELLINGS {
        let began = Instant::now();
        match hypervisor.tell(&channel, &script, limit) {
            Ok(()) if began.elapsed() <= PROMPT => return Ok(true),
            Ok(()) => script = set_clock(),
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Sets the clock of a node that stood still for a moment and goes on. One that does not listen is
/// left behind by that moment; its next start sets it.
pub fn correct_clock(hypervisor: &dyn Hypervisor, names: &Names, access: &Access) {
    if matches!(tell(hypervisor, names, access, set_clock()), Ok(true)) {
        return;
    }
    let by_ssh = || -> Result<()> {
        let target = access.target_with(&keys_of_node(access))?;
        tell_time(&mut Ssh::connect(&target, access.deadline(ATTEMPT))?)
    };
    let _ = by_ssh();
}

/// Connects to a node that has heard who it is. Its SSH server may not have read its new keys yet.
///
/// # Errors
/// As [`connect`].
pub fn connect_introduced(
    access: &Access,
    pki: &Pki,
    watcher: &mut Watcher<'_>,
    limit: Duration,
    step: &Step,
) -> Result<Ssh> {
    match connect_when_read(&access.target()?, access.deadline(ATTEMPT)) {
        Ok(ssh) => {
            fsutil::remove_all(&access.dir.handover())?;
            watcher.reached();
            Ok(ssh)
        }
        Err(e) if e.kind() == Kind::Interrupted => Err(e),
        Err(_) => connect(access, pki, watcher, limit, step),
    }
}

/// Writes files of an identity and lets the SSH server read its keys anew; also tells the time.
///
/// # Errors
/// [`Kind::Unhealthy`] when the node cannot, [`Kind::NodeUnreachable`] when SSH breaks.
pub fn hand_over(ssh: &mut Ssh, files: &[NodeFile]) -> Result<()> {
    ssh.push(files)?;
    let script = format!("{}\n{RELOAD}", set_clock());
    ssh.run(&script)?
        .require("giving the node its own identity")
        .map(drop)
}

/// Tells the node what time it is: its clock stood still while its memory lay in a file.
///
/// # Errors
/// As [`hand_over`].
pub fn tell_time(ssh: &mut Ssh) -> Result<()> {
    for _ in 0..TELLINGS {
        let began = Instant::now();
        ssh.run(&set_clock())?.require("setting the node's clock")?;
        if began.elapsed() <= PROMPT {
            break;
        }
    }
    Ok(())
}

/// The command that sets the clock. What it takes to get there is milliseconds.
fn set_clock() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "date -u -s @{}.{:03} >/dev/null",
        now.as_secs(),
        now.subsec_millis()
    )
}

/// Where the keys are that the node has now: its own, unless it is a copy that has not got them.
pub fn keys_of_node(access: &Access) -> ProfileDir {
    let borrowed = ProfileDir::at(access.dir.handover());
    if borrowed.root().exists() {
        borrowed
    } else {
        access.dir.clone()
    }
}

/// Copies the SSH keys of one folder into another.
///
/// # Errors
/// [`Kind::State`] when a key is missing, [`Kind::Internal`] when the file system refuses.
pub fn copy_keys(from: &ProfileDir, to: &ProfileDir) -> Result<()> {
    for (from, to) in [
        (from.ssh_key(), to.ssh_key()),
        (from.host_key(), to.host_key()),
    ] {
        for (from, to, mode) in [
            (from.clone(), to.clone(), 0o600),
            (from.with_extension("pub"), to.with_extension("pub"), 0o644),
        ] {
            let content = std::fs::read(&from)
                .context(Kind::State, || format!("cannot read {}", from.display()))?;
            if let Some(parent) = to.parent() {
                fsutil::create_private_dir(parent)?;
            }
            fsutil::write_atomic(&to, &content, mode)?;
        }
    }
    Ok(())
}
