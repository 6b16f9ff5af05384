//! Pods, the network, and programs that find the API's port.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use crate::env::Env;
use crate::group::Test;
use crate::image;
use crate::program::{Run, eventually};

pub const TESTS: &[Test] = tests![
    pods_reach_neither_etcd_nor_the_hosts_loopback,
    a_port_of_the_host_is_opened_to_whom_it_is_for,
    strangers_get_nothing_from_the_api,
    no_login_without_the_key,
];

/// A program to connect with, and a Service of the user's that leads to the host's loopback.
fn manifests(port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: stranger}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: app, image: \"{}\", args: [serve], securityContext: {{runAsUser: 0}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: around}}
spec:
  ports: [{{port: 80, targetPort: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: around, labels: {{kubernetes.io/service-name: around}}}}
addressType: IPv4
ports: [{{port: {port}}}]
endpoints: [{{addresses: [10.0.2.2]}}]
",
        image::NAME
    )
}

/// Waits until a pod is ready.
fn is_ready(env: &Env, pod: &str) {
    env.kubectl(&["wait", "--for=condition=Ready", pod, "--timeout=180s"])
        .ok();
}

/// Waits until the node leads a Service to this port of the host.
fn has_rules(env: &Env, address: &str, port: u16) {
    // kube-proxy may have to try again, which it does after 30 s.
    eventually(Duration::from_secs(90), "the Service has its rules", || {
        // Not by nft, which shows where a rule of iptables leads to only now and then.
        let save = "iptables-save -t nat";
        let rules = env.kubby(&["ssh", "--", save]).ok().stdout;
        if rules.contains(address) && rules.contains(&format!("10.0.2.2:{port}")) {
            return Ok(());
        }
        let log = "journalctl -u kube-proxy -n 30 --no-pager -o short-monotonic";
        let log = env.kubby(&["ssh", "--", log]).ok().stdout;
        let services = env.kubectl(&["get", "service,endpointslice", "-A"]).stdout;
        Err(format!(
            "no {address} to {port} in\n{rules}\n{services}\n{log}"
        ))
    });
}

fn pods_reach_neither_etcd_nor_the_hosts_loopback(env: &Env) {
    image::load(env);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    listener.set_nonblocking(true).expect("nonblocking");
    let file = env.root().join("stranger.yaml");
    std::fs::write(&file, manifests(port)).expect("a file");
    let file = file.to_str().expect("a path");
    env.kubectl(&["apply", "-f", file]).ok();
    is_ready(env, "pod/stranger");
    let address = |of: &str| {
        let path = "jsonpath={.spec.clusterIP}";
        env.kubectl(&["get", "service", of, "-o", path]).ok().stdout
    };

    let around = address("around");
    has_rules(env, &around, port);
    let own = env.kubby(&["port", "ssh"]).ok().stdout;
    let mut closed = vec![format!("{around}:80")];
    for host in ["10.0.2.2", "10.0.2.3", "10.0.2.4"] {
        closed.push(format!("{host}:{port}"));
        closed.push(format!("{host}:{}", own.trim()));
    }
    // etcd and what else listens for the node alone: the scheduler, the controllers, the proxy.
    for port in [2379, 2380, 2381, 10249, 10257, 10259] {
        closed.push(format!("10.0.2.15:{port}"));
    }
    // What the pod may reach, as a sign that the others are not just out of order.
    let open = [
        "127.0.0.1:8080".to_owned(),
        format!("{}:443", address("kubernetes")),
        "10.0.2.15:6443".to_owned(),
    ];
    let mut command = vec!["exec", "stranger", "--", "/bin/app", "reach"];
    command.extend(open.iter().chain(&closed).map(String::as_str));
    let answers = env.kubectl(&command).ok().stdout;
    for address in &open {
        let line = format!("{address} connected\n");
        assert!(answers.contains(&line), "no {line} in\n{answers}");
    }
    for address in &closed {
        let line = format!("{address} failed: ");
        assert!(answers.contains(&line), "no {line} in\n{answers}");
    }
    assert!(listener.accept().is_err(), "a pod came through to the host");
    env.kubectl(&["delete", "-f", file]).ok();
}

/// One port of the host is open to the nodes' own programs, then to pods as well, then to none; others stay closed.
fn a_port_of_the_host_is_opened_to_whom_it_is_for(env: &Env) {
    image::load(env);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener
        .local_addr()
        .expect("an address")
        .port()
        .to_string();
    let overrides = r#"--overrides={"spec": {"terminationGracePeriodSeconds": 0}}"#;
    let image = format!("--image={}", image::NAME);
    env.kubectl(&["run", "caller", &image, overrides, "--", "serve"])
        .ok();
    is_ready(env, "pod/caller");
    let address = format!("host.kubby.internal:{port}");
    let ssh = env.kubby(&["port", "ssh"]).ok().stdout;
    let other = format!("host.kubby.internal:{}", ssh.trim());
    let pod = |open: bool| {
        let reach = [
            "exec", "caller", "--", "/bin/app", "reach", &address, &other,
        ];
        let answers = env.kubectl(&reach).ok().stdout;
        let wanted = if open { "connected\n" } else { "failed: " };
        assert!(
            answers.contains(&format!("{address} {wanted}")),
            "{answers}"
        );
        assert!(answers.contains(&format!("{other} failed: ")), "{answers}");
        assert!(!answers.contains("no such host"), "{answers}");
    };
    let node = || {
        let connect = format!("timeout 5 bash -c '</dev/tcp/host.kubby.internal/{port}' 2>&1");
        env.kubby(&["ssh", "--", &connect]).code == 0
    };
    pod(false);
    assert!(!node());
    env.kubby(&["host-port", "add", &port, "--from", "api"])
        .ok();
    pod(false);
    assert!(node());
    env.kubby(&["host-port", "add", &port])
        .ok()
        .prints(&format!("at {address}"));
    pod(true);
    // The rules of the machine are those of the profile.
    env.kubby(&["start"]).ok();
    pod(true);
    env.kubby(&["host-port", "list"]).ok().prints(&address);
    env.kubby(&["host-port", "remove", &port]).ok();
    pod(false);
    assert!(!node());
    env.kubby(&["host-port", "remove", &port])
        .exits(2)
        .says("is not open");
    env.kubectl(&["delete", "pod", "caller"]).ok();
}

/// Returns the status of an answer to a request with these arguments of curl.
fn status(args: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-sk", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}"]);
    curl.args(args);
    Run::of(curl).stdout
}

fn strangers_get_nothing_from_the_api(env: &Env) {
    let port = env.kubby(&["port", "api"]).ok().stdout;
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", port.trim());
    // Whether it is up is not a secret; all else is.
    assert_eq!(status(&[&url("/readyz")]), "200");
    for path in [
        "/",
        "/api",
        "/api/v1/namespaces/kube-system/secrets",
        "/apis",
        "/version",
        "/metrics",
        "/openapi/v3",
        "/debug/pprof/",
        "/.well-known/openid-configuration",
    ] {
        assert_eq!(status(&[&url(path)]), "401", "{path}");
    }
    let header = "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.";
    assert_eq!(status(&["-H", header, &url("/api")]), "401");
    let header = "X-Remote-User: kubernetes-admin";
    assert_eq!(status(&["-H", header, &url("/api")]), "401");

    // A certificate that says the right name, but is of another authority.
    let dir = env.root().join("other-authority");
    std::fs::create_dir_all(&dir).expect("a folder");
    let mut openssl = Command::new("openssl");
    openssl.current_dir(&dir).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/O=system:masters/CN=kubernetes-admin",
        "-keyout",
        "key",
        "-out",
        "crt",
    ]);
    Run::of(openssl).ok();
    let file = |name: &str| dir.join(name).to_str().expect("a path").to_owned();
    let with = status(&["--cert", &file("crt"), "--key", &file("key"), &url("/api")]);
    assert!(matches!(with.as_str(), "401" | "000"), "{with}");
    std::fs::remove_dir_all(&dir).expect("removed");
}

fn no_login_without_the_key(env: &Env) {
    let port = env.kubby(&["port", "ssh"]).ok().stdout;
    let login = |more: &[&str]| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", port.trim(), "-o", "BatchMode=yes"]);
        ssh.args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]);
        ssh.args(["-o", "ConnectTimeout=20", "-o", "IdentityAgent=none"]);
        ssh.args(more).args(["root@127.0.0.1", "true"]);
        Run::of(ssh)
    };
    // The server says which ways there are: keys alone.
    login(&["-o", "IdentitiesOnly=yes", "-o", "IdentityFile=none"])
        .exits(255)
        .says("Permission denied (publickey).");
    let key = env
        .home()
        .join("profiles")
        .join(&env.profile)
        .join("ssh/id_ed25519");
    login(&["-i", key.to_str().expect("a path")]).ok();
}
