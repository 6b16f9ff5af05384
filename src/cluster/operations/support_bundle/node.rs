//! The parts of a bundle that the node has: journals and lists of processes, over SSH.

use std::time::Duration;

use super::parts::Parts;
use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::operations::status::HostState;
use crate::provision;

/// The limit for connecting to the node.
const CONNECT: Duration = Duration::from_secs(20);

/// The limit for each command.
const LOOK: Duration = Duration::from_secs(30);

/// The most lines of a journal, from its end.
const LINES: u32 = 5000;

/// The commands beside journals. Programs without their arguments: these may be secret.
const SYSTEM: &str = "for look in 'uname -a' 'cat /etc/os-release' uptime 'free -m' 'df -h' \
'systemctl --no-pager --failed' 'systemctl --no-pager list-units --type=service' \
'ps -eo pid,ppid,stat,rss,etime,comm' 'ip -br address' 'ip route'; do \
echo \"== $look\"; $look; echo; done 2>&1";

/// The commands about containers.
const CONTAINERS: &str =
    "for look in 'crictl ps -a' 'crictl images'; do echo \"== $look\"; $look; echo; done 2>&1";

/// Looks at everything, as long as the node answers.
pub(super) fn collect(env: &Env<'_>, cluster: &Cluster, host: HostState, parts: &mut Parts) {
    if host != HostState::Running {
        let why = format!("the node does not run: its machine is {host:?}");
        return parts.missing("node/", &why);
    }
    let ssh = cluster.target().and_then(|target| {
        let limit = CONNECT.min(parts.left());
        env.backend.connect(&target, limit)
    });
    let mut ssh = match ssh {
        Ok(ssh) => ssh,
        Err(e) => return parts.problem("node/", &e),
    };
    let mut looks: Vec<(String, String)> = vec![("node/system.txt".into(), SYSTEM.into())];
    for process in provision::processes(cluster.profile.first().role) {
        let command = format!("journalctl --no-pager -o short-precise -n {LINES} -u {process}");
        looks.push((format!("node/journal-{process}.txt"), command));
    }
    let all = format!("journalctl --no-pager -o short-precise -b -n {LINES}");
    looks.push(("node/journal.txt".into(), all));
    looks.push(("node/containers.txt".into(), CONTAINERS.into()));
    for (name, command) in looks {
        if !parts.go_on(&name) {
            return;
        }
        let output = ssh.exec(&command, &[], Some(LOOK.min(parts.left())));
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        parts.add(&name, text);
    }
}
