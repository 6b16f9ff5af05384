//! The parts of a bundle that nodes have: journals and lists of processes, over SSH.

use std::time::Duration;

use super::parts::Parts;
use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::operations::status::HostState;
use crate::profile::NodeProfile;
use crate::provision;

/// The limit for connecting to a node.
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

/// Looks at everything on all nodes, as long as they answer.
pub(super) fn collect(env: &Env<'_>, cluster: &Cluster, host: HostState, parts: &mut Parts) {
    for (index, node) in cluster.profile.nodes.iter().enumerate() {
        let folder = match index {
            0 => "node/".to_owned(),
            _ => format!("nodes/{}/", node.name),
        };
        if index == 0 && host != HostState::Running {
            let why = format!("the node does not run: its machine is {host:?}");
            parts.missing(&folder, &why);
        } else {
            collect_from(env, cluster, node, &folder, parts);
        }
    }
}

fn collect_from(
    env: &Env<'_>,
    cluster: &Cluster,
    node: &NodeProfile,
    folder: &str,
    parts: &mut Parts,
) {
    let ssh = cluster.target_of(node).and_then(|target| {
        let limit = CONNECT.min(parts.left());
        env.backend.connect(&target, limit)
    });
    let mut ssh = match ssh {
        Ok(ssh) => ssh,
        Err(e) => return parts.problem(folder, &e),
    };
    let mut looks: Vec<(String, String)> = vec![(format!("{folder}system.txt"), SYSTEM.into())];
    for process in provision::processes(node.role) {
        let command = format!("journalctl --no-pager -o short-precise -n {LINES} -u {process}");
        looks.push((format!("{folder}journal-{process}.txt"), command));
    }
    let all = format!("journalctl --no-pager -o short-precise -b -n {LINES}");
    looks.push((format!("{folder}journal.txt"), all));
    looks.push((format!("{folder}containers.txt"), CONTAINERS.into()));
    for (name, command) in looks {
        if !parts.go_on(&name) {
            return;
        }
        let output = ssh.exec(&command, &[], Some(LOOK.min(parts.left())));
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        parts.add(&name, text);
    }
}
