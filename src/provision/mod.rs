//! Turning a booted node into a Kubernetes node, over SSH.
//!
//! Each concern (runtime, etcd, control plane, node) is a file here that says which files and
//! systemd units it wants; [`apply()`] compares that with the node and changes only what differs,
//! so that running it again repairs what is missing and touches nothing else.

mod apply;
mod balancer;
mod control_plane;
mod egress;
mod ending;
mod etcd;
mod host_ports;
mod line;
mod links;
mod members;
mod node;
mod policies;
mod runtime;
mod unit;
mod verify;
mod wanted;

pub(crate) use apply::{apply, read_programs, settled, start_all};
pub(crate) use control_plane::operator_files;
pub(crate) use ending::{
    Ended, EndingPod, ended, ending_pods, longest_grace, script as end_pods_script,
};
pub(crate) use host_ports::open_host_ports;
pub(crate) use line::{Cut, Line, has_line_fault};
pub(crate) use links::{are_links, peers_of};
pub(crate) use members::{
    Member, add_member, admission, forget_member_data, hand_over_lead, has_member_data, members,
    members_file, move_member, promote_member, remove_member, serve,
};
pub(crate) use policies::remove_policies;
pub(crate) use runtime::{
    BUILDKIT_SOCKET, CONTAINERD_SOCKET, NO_ARCHIVE, SEEDED_IMAGES, import_command,
};
pub(crate) use unit::Unit;
pub(crate) use verify::{
    CONTROLLERS, booted_at, crash_looping, is_healthy, journal_tail, network_faults, processes,
    verify,
};
pub(crate) use wanted::{COMPONENTS_DIR, Inputs, Links, Peer, Wanted};

use sha2::{Digest, Sha256};

use crate::remote::NodeFile;
use crate::role::Role;
use crate::units::hex;

/// Returns everything that is wanted in the node, in the order in which it is started.
pub(crate) fn plan(inputs: &Inputs<'_>) -> Wanted {
    let mut all = egress::wanted(inputs);
    all.add(host_ports::wanted(inputs));
    all.add(links::wanted(inputs));
    all.add(line::wanted());
    all.add(runtime::wanted(inputs));
    match inputs.role {
        Role::ControlPlane => {
            all.add(etcd::wanted(inputs));
            all.add(control_plane::wanted(inputs));
        }
        Role::Worker => all.add(balancer::wanted(inputs)),
    }
    all.add(node::wanted(inputs));
    all.checks = inputs.checks();
    let targets = [unit::target(&all.units), unit::first_target(&all.units)];
    all.units.extend(targets);
    let unit_files: Vec<NodeFile> = all.units.iter().map(Unit::file).collect();
    all.files.extend(unit_files);
    all
}

/// Returns a digest of all that a plan says; one made with [`Pki::made_up`](crate::pki::Pki::made_up) leaves keys and
/// certificates out.
pub(crate) fn digest(wanted: &Wanted) -> String {
    let mut digest = Sha256::new();
    for file in &wanted.files {
        for part in [file.path.as_bytes(), &file.content] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.update(file.mode.to_be_bytes());
    }
    hex(&digest.finalize())
}

/// Returns the part of a plan that another plan shares with it. What the plans of two nodes share
/// shows nothing of either.
pub(crate) fn common(one: Wanted, other: &Wanted) -> Wanted {
    let shared = |file: &NodeFile| other.files.contains(file);
    Wanted {
        files: one.files.into_iter().filter(shared).collect(),
        ..one
    }
}

/// Returns the files that a new node may have before it is reached: all but those that need a
/// command when they change.
pub(crate) fn before_boot(wanted: &Wanted) -> Vec<NodeFile> {
    let acted_on = |path: &str| wanted.actions.iter().any(|action| action.path == path);
    let left_out = |file: &NodeFile| {
        acted_on(&file.path)
            || file.content.is_empty() && wanted.optional.iter().any(|path| *path == file.path)
    };
    let files = wanted.files.iter().filter(|file| !left_out(file));
    files.cloned().collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;
    use crate::egress::Egress;
    use crate::network::Network;
    use crate::pki::{self, CertName, Pki, PkiSpec};

    fn wanted(role: Role) -> Wanted {
        let dir = tempfile::tempdir().unwrap();
        let spec = PkiSpec::of_first_node(time::OffsetDateTime::now_utc());
        wanted_with(role, &pki::ensure(dir.path(), &spec).unwrap())
    }

    fn wanted_with(role: Role, pki: &Pki) -> Wanted {
        let network = Network::default();
        plan(&Inputs {
            network: &network,
            node: &network.first_node(),
            role,
            links: &Links::default(),
            control_planes: &[network.first_node()],
            pki,
            pause_image: "registry.k8s.io/pause:3.10.2",
            cni: crate::cni::Cni::default(),
            host_ports: &[],
            extra_config: &[],
            version: crate::assets::version::DEFAULT,
            egress: &Egress::default(),
        })
    }

    /// The flags that kubby sets and a user may set otherwise, since nothing but speed and logs depends on them.
    const OPEN: [&str; 12] = [
        "controllers",
        "election-timeout",
        "enable-admission-plugins",
        "feature-gates",
        "heartbeat-interval",
        "kube-api-burst",
        "kube-api-qps",
        "leader-elect-lease-duration",
        "log-level",
        "logger",
        "warning-apply-duration",
        "warning-unary-request-duration",
    ];

    #[test]
    fn a_user_sets_no_flag_that_kubby_relies_on() {
        use crate::extra_config::Component;
        let wanted = wanted(Role::ControlPlane);
        for (component, unit) in [
            (Component::ApiServer, "kube-apiserver"),
            (Component::ControllerManager, "kube-controller-manager"),
            (Component::Scheduler, "kube-scheduler"),
            (Component::Kubelet, "kubelet"),
            (Component::Etcd, "etcd"),
        ] {
            let unit = format!("/{unit}.service");
            let file = wanted.files.iter().find(|file| file.path.ends_with(&unit));
            let text = String::from_utf8_lossy(&file.unwrap().content).into_owned();
            let waits = |line: &&str| line.starts_with("ExecStartP");
            let lines = text.lines().filter(|line| !waits(line));
            let words = lines.flat_map(str::split_whitespace);
            let words = words.map(|word| word.trim_matches('"'));
            let flags = words.filter_map(|word| word.strip_prefix("--")?.split('=').next());
            let mut flags: Vec<&str> = flags.filter(|flag| !OPEN.contains(flag)).collect();
            flags.sort_unstable();
            // An etcd that joins others has this one as well, by its environment.
            let own = component
                .own()
                .iter()
                .filter(|flag| **flag != "initial-cluster-state");
            assert!(own.eq(&flags), "{unit}: {flags:?}");
        }
    }

    #[test]
    fn keys_are_secret_and_nothing_is_listed_twice() {
        let wanted = wanted(Role::ControlPlane);
        let mut paths: Vec<&str> = wanted.files.iter().map(|f| f.path.as_str()).collect();
        for file in &wanted.files {
            let text = String::from_utf8_lossy(&file.content);
            if text.contains("PRIVATE KEY") || text.contains("client-key-data") {
                assert_eq!(file.mode, 0o600, "{}", file.path);
            }
            assert!(file.path.starts_with('/'), "{}", file.path);
        }
        paths.sort_unstable();
        let count = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }

    #[test]
    fn every_file_that_a_unit_reads_is_in_the_plan() {
        let wanted = wanted(Role::ControlPlane);
        for unit in &wanted.units {
            for path in &unit.reads {
                assert!(
                    wanted.files.iter().any(|f| f.path == *path),
                    "{}: {path}",
                    unit.name
                );
            }
        }
    }

    #[test]
    fn a_node_has_all_before_its_boot_but_files_that_need_a_command() {
        let wanted = wanted(Role::ControlPlane);
        let brought = before_boot(&wanted);
        for file in &wanted.files {
            let is_brought = brought.iter().any(|b| b.path == file.path);
            let acted_on = wanted.actions.iter().any(|a| a.path == file.path);
            let empty = wanted.optional.iter().any(|path| *path == file.path);
            assert_eq!(is_brought, !acted_on && !empty, "{}", file.path);
        }
        let first = format!("/etc/systemd/system/{}", unit::FIRST_TARGET);
        let first = brought.iter().find(|file| file.path == first).unwrap();
        let text = String::from_utf8_lossy(&first.content).into_owned();
        assert!(text.contains("kube-apiserver") && !text.contains("kube-scheduler"));
        assert!(!text.contains("WantedBy"), "{text}");
    }

    #[test]
    fn every_process_has_its_unit() {
        for role in [Role::ControlPlane, Role::Worker] {
            let units = wanted(role).units;
            for process in processes(role) {
                let unit = format!("{process}.service");
                assert!(units.iter().any(|u| u.name == unit), "{unit}");
            }
        }
    }

    #[test]
    fn timers_are_shared_but_not_by_pods() {
        let wanted = wanted(Role::ControlPlane);
        for unit in &wanted.units {
            let starts_pods = ["containerd.service", "buildkit.service"].contains(&&*unit.name);
            let process = unit.name.trim_end_matches(".service");
            let is_process = processes(Role::ControlPlane).contains(&process);
            let unhurried = unit.lines.iter().any(|(key, _)| *key == "TimerSlackNSec");
            assert_eq!(unhurried, is_process && !starts_pods, "{}", unit.name);
        }
    }

    /// Returns the files of a plan without what is secret or differs each time.
    fn readable(wanted: &Wanted) -> String {
        let mut text = String::new();
        for file in &wanted.files {
            text.push_str(&format!("--- {} {:o}\n", file.path, file.mode));
            let secret =
                file.mode == 0o600 || file.path.ends_with(".crt") || file.path.ends_with(".pub");
            if !secret {
                text.push_str(&String::from_utf8_lossy(&file.content));
            }
        }
        text
    }

    #[test]
    fn the_plan_of_a_control_plane() {
        insta::assert_snapshot!(readable(&wanted(Role::ControlPlane)));
    }

    #[test]
    fn the_plan_of_a_worker() {
        insta::assert_snapshot!(readable(&wanted(Role::Worker)));
    }

    #[test]
    fn a_further_control_plane_waits_for_its_admission() {
        let network = Network::default();
        let all = [network.first_node(), network.node("control-plane-2", 2)];
        let texts = |node: &crate::network::NodeNetwork| {
            let plan = plan(&Inputs {
                network: &network,
                node,
                role: Role::ControlPlane,
                links: &Links::default(),
                control_planes: &all,
                pki: &Pki::made_up(""),
                pause_image: "pause",
                cni: crate::cni::Cni::default(),
                host_ports: &[],
                extra_config: &[],
                version: crate::assets::version::DEFAULT,
                egress: &Egress::default(),
            });
            let text = |name: &str| {
                let found = plan.files.iter().find(|file| file.path.ends_with(name));
                found.map(|file| String::from_utf8_lossy(&file.content).into_owned())
            };
            [
                "etcd.service",
                "kube-apiserver.service",
                "kube-scheduler.service",
                "etcd.nft",
                "seed-etcd",
            ]
            .map(|name| text(name).unwrap_or_default())
        };
        let [etcd, api, scheduler, firewall, seed] = texts(&all[1]);
        let condition = "ConditionPathExists=/etc/kubby/etcd";
        assert!(etcd.contains(&format!("{condition}.env\n")), "{etcd}");
        assert!(api.contains(&format!("{condition}-voter\n")), "{api}");
        assert!(etcd.contains("https://10.245.0.2:2380") && !etcd.contains("seed-etcd"));
        assert!(scheduler.contains("--leader-elect=true"));
        assert!(
            firewall.contains("{ 10.245.0.1, 10.245.0.2 } drop"),
            "{firewall}"
        );
        assert_eq!(seed, "");
        let [etcd, api, _, _, seed] = texts(&all[0]);
        assert!(!etcd.contains(condition) && !api.contains(condition));
        assert!(etcd.contains("https://10.245.0.1:2380") && !seed.is_empty());
    }

    #[test]
    fn a_worker_has_no_secret_of_the_control_plane() {
        let dir = tempfile::tempdir().unwrap();
        let spec = PkiSpec::of_first_node(time::OffsetDateTime::now_utc());
        let pki = pki::ensure(dir.path(), &spec).unwrap();
        let holds = |role, secret: &str| {
            let wanted = wanted_with(role, &pki);
            let encoded = base64::engine::general_purpose::STANDARD.encode(secret);
            wanted.files.iter().any(|file| {
                let text = String::from_utf8_lossy(&file.content);
                text.contains(secret.trim()) || text.contains(&encoded)
            })
        };
        let own = [
            CertName::KubeProxy,
            CertName::KubeletClient,
            CertName::KubeletServing,
        ];
        for name in CertName::ALL {
            assert_eq!(
                holds(Role::Worker, pki.key(name)),
                own.contains(&name),
                "{name:?}"
            );
        }
        assert!(!holds(Role::Worker, &pki.service_account_key));
        // Otherwise the test would look for the wrong text.
        assert!(holds(Role::ControlPlane, pki.key(CertName::Admin)));
        assert!(holds(Role::ControlPlane, &pki.service_account_key));
    }
}
