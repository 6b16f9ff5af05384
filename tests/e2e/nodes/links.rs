//! The links between nodes: who is heard on them, and faults that are made on purpose.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::{not_ready, on, pods_still_answer, ready, spread};
use crate::env::Env;
use crate::exercises::exec;
use crate::group::Test;
use crate::program::Run;

pub const TESTS: &[Test] = tests![links_keep_others_out, a_node_is_cut_off_and_connected];

/// Asks the first node's API server, from another node.
fn ask(env: &Env, node: &str, options: &str) -> Run {
    let ask = format!("curl -sk -m 5 {options} https://10.245.0.1:6443/readyz");
    on(env, node, &ask)
}

/// Keys of links are private; other users' packets change nothing; pods reach no port of the host; a node
/// that takes another one's address is not heard.
fn links_keep_others_out(env: &Env) {
    spread(env);
    let modes = "stat -c %a /etc/kubby/wireguard.conf";
    assert_eq!(on(env, "worker-1", modes).ok().stdout, "600\n");
    let own = env.home().join("profiles").join(&env.profile);
    for key in [own.join("link.key"), own.join("nodes/worker-1/link.key")] {
        let mode = std::fs::metadata(&key)
            .expect("the key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{}", key.display());
    }
    let profile = std::fs::read_to_string(own.join("profile.toml")).expect("the profile");
    let profile: toml::Table = profile.parse().expect("TOML");
    let ports = profile["node"].as_array().expect("nodes").iter();
    let ports = ports.map(|node| node["ports"]["link"].as_integer().expect("a port"));
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("a timeout");
    for port in ports {
        // The beginning of a handshake, and noise.
        for packet in [[1u8; 148].as_slice(), &[4; 64], b"hello"] {
            let to = ("127.0.0.1", u16::try_from(port).expect("a port"));
            stranger.send_to(packet, to).expect("sent");
        }
    }
    let mut answer = [0; 256];
    let heard = stranger.recv_from(&mut answer);
    assert!(heard.is_err(), "a node answers strangers: {heard:?}");
    let here = stranger.local_addr().expect("an address").port();
    let send = format!("echo from a pod | timeout 3 nc -u -w 1 10.0.2.2 {here}; true");
    exec(env, "spread-0", &["sh", "-c", &send]);
    let heard = stranger.recv_from(&mut answer);
    assert!(heard.is_err(), "a pod reaches the host: {heard:?}");
    stranger.send_to(b"x", ("127.0.0.1", here)).expect("sent");
    assert!(stranger.recv_from(&mut answer).is_ok(), "it hears nobody");
    assert_eq!(
        ask(env, "worker-1", "--interface 10.245.0.2").ok().stdout,
        "ok"
    );
    on(env, "worker-1", "ip address add 10.245.0.3/32 dev lo").ok();
    ask(env, "worker-1", "--interface 10.245.0.3").exits(28);
    on(env, "worker-1", "ip address delete 10.245.0.3/32 dev lo").ok();
    pods_still_answer(env);
}

/// Faults are what was asked for, Kubernetes and kubby see them, and a start repairs them.
fn a_node_is_cut_off_and_connected(env: &Env) {
    spread(env);
    let cut = ["node", "disconnect", "worker-1"];
    env.kubby(&[&cut[..], &["--from", "worker-1"]].concat())
        .exits(2)
        .says("from itself");
    env.kubby(&[&cut[..], &["--from", "worker-9"]].concat())
        .exits(15)
        .says("worker-2");
    env.kubby(&[&cut[..], &["--from", "worker-2"]].concat())
        .ok();
    let reaches = |node: &str, other: &str| {
        let ask = format!("curl -sk -o /dev/null -m 8 https://{other}:10250/healthz");
        on(env, node, &ask).code == 0
    };
    assert!(
        !reaches("worker-1", "10.245.0.3"),
        "worker-1 reaches worker-2"
    );
    assert!(
        !reaches("worker-2", "10.245.0.2"),
        "worker-2 reaches worker-1"
    );
    for node in ["worker-1", "worker-2"] {
        assert!(reaches(node, "10.245.0.1"), "{node} does not reach kubby");
    }

    env.kubby(&cut).ok();
    ask(env, "worker-1", "").exits(28);
    not_ready(env, "worker-1");
    let status = env.kubby(&["status", "-o", "json"]).ok().json();
    assert_eq!(status["nodes"][1]["kubelet"], "Error", "{status}");
    assert_eq!(status["nodes"][2]["kubelet"], "Running", "{status}");
    env.kubby(&["status", "--exit-code"]).exits(14);
    let start = env.kubby(&["start"]).ok();
    note!("a start connects a node: {:.1} s", start.took.as_secs_f64());
    assert_eq!(ready(env, "worker-1"), "True");
    assert_eq!(ask(env, "worker-1", "").ok().stdout, "ok");

    let connect = ["node", "connect", "worker-1"];
    env.kubby(&[&connect[..], &["--loss", "101"]].concat())
        .exits(2);
    env.kubby(&[&connect[..], &["--delay", "700ms"]].concat())
        .ok();
    let seconds = || -> f64 {
        let took = ask(env, "worker-1", "-o /dev/null -w '%{time_total}'");
        took.ok().stdout.parse().expect("seconds")
    };
    let slow = seconds();
    assert!(slow > 1.4, "a connection and a handshake in {slow} s");
    env.kubby(&[&connect[..], &["--loss", "100%"]].concat())
        .ok();
    ask(env, "worker-1", "").exits(28);
    env.kubby(&connect).ok();
    assert!(seconds() < slow);
    pods_still_answer(env);
}
