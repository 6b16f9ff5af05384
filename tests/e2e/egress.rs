//! The node's way to the world: mirrors, private authorities, proxies and name servers of this
//! host, each on its loopback.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::env::Env;
use crate::group::Test;
use crate::image;
use crate::outside::{self, RESOLVED, Server};
use crate::program::{Run, eventually};

pub const TESTS: &[Test] = tests![
    images_come_through_mirrors_authorities_and_proxies,
    names_resolve_as_the_host_says,
];

/// The limit of a pod's start on a slow machine.
const POD_LIMIT: Duration = Duration::from_secs(180);

/// Returns a registry with a certificate of an authority that only the user knows, and the authority.
fn private_registry() -> (Server, String) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("a certificate");
    let issuer = Issuer::from_params(&params, &ca_key);
    let key = KeyPair::generate().expect("a key");
    // The loopback's address in the node.
    let params = CertificateParams::new(vec!["10.0.2.2".into()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let server = outside::tls_registry(certificate.der().to_vec(), key.serialize_der());
    (server, ca.pem())
}

/// Runs `kubby start` with a proxy in its environment, or without any.
fn start(env: &Env, proxy: Option<&str>, args: &[&str]) -> Run {
    let mut command: Command = env.kubby_command();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    if let Some(proxy) = proxy {
        command.env("http_proxy", proxy);
    }
    command
        .args(["-p", &env.profile, "start", "-o", "json"])
        .args(args);
    let run = Run::of(command).ok();
    assert!(!run.stderr.contains("s3cret"), "{}", run.stderr);
    run
}

fn changed(run: &Run) -> Vec<String> {
    let json = run.json();
    let files = json["changedFiles"].as_array().expect("a list").clone();
    files
        .iter()
        .map(|f| f.as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Starts pods whose images have to be pulled, all at once, and waits until they run.
fn pull(env: &Env, pods: &[(&str, &str, &Server)]) {
    for (pod, image, _) in pods {
        env.kubectl(&[
            "run",
            pod,
            &format!("--image={image}"),
            "--image-pull-policy=Always",
            "--restart=Never",
        ])
        .ok();
    }
    for (pod, image, server) in pods {
        eventually(POD_LIMIT, &format!("{image} is pulled"), || {
            let phase = env
                .kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"])
                .ok();
            if phase.stdout == "Running" {
                Ok(())
            } else {
                let events = env.kubectl(&["describe", "pod", pod]).stdout;
                Err(format!("{events}\nthe server saw\n{}", server.log()))
            }
        });
    }
}

/// Servers outside of the cluster: registries, each to be reached in another way.
struct Outside {
    mirror: Server,
    private: Server,
    proxy: Server,
    proxy_url: String,
    /// The private registry's authority.
    ca: PathBuf,
}

impl Outside {
    fn new(env: &Env) -> Self {
        let (private, ca) = private_registry();
        let proxy = outside::proxy(outside::registry().port);
        let file = env.root().join("ca.pem");
        std::fs::write(&file, ca).expect("a file");
        Outside {
            mirror: outside::registry(),
            private,
            proxy_url: format!("http://me:s3cret@127.0.0.1:{}", proxy.port),
            proxy,
            ca: file,
        }
    }

    fn flags(&self) -> Vec<String> {
        let mirror = format!("http://127.0.0.1:{}", self.mirror.port);
        let private = format!("private.test=https://localhost:{}", self.private.port);
        let ca = self.ca.display().to_string();
        let flags = [
            ["--registry-mirror", &mirror],
            ["--registry-mirror", &private],
            ["--ca-certificate", &ca],
            ["--insecure-registry", "plain.test:5000"],
        ];
        flags.concat().into_iter().map(str::to_owned).collect()
    }

    /// Pulls an image in each of the ways, in pods of these names.
    fn pull_all(&self, env: &Env) {
        let Outside {
            mirror,
            private,
            proxy,
            ..
        } = self;
        pull(
            env,
            &[
                ("by-mirror", "kubby-test/app:1", mirror),
                ("by-authority", "private.test/app:1", private),
                ("by-proxy", "plain.test:5000/app:1", proxy),
            ],
        );
        assert!(mirror.saw("/v2/kubby-test/app/manifests/1?ns=docker.io"));
        assert!(private.saw("/v2/app/manifests/1"), "{}", private.log());
        assert!(
            proxy.saw("http://plain.test:5000/v2/app/manifests/1"),
            "{}",
            proxy.log()
        );
        assert!(proxy.saw("Basic "), "{}", proxy.log());
        assert!(!proxy.saw("10.0.2.2"), "{}", proxy.log());
    }
}

fn images_come_through_mirrors_authorities_and_proxies(env: &Env) {
    let outside = Outside::new(env);
    let proxy = Some(outside.proxy_url.as_str());
    let flags = outside.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let first = start(env, proxy, &flags);
    assert!(
        changed(&first).contains(&"/etc/containerd/certs.d/docker.io/hosts.toml".to_owned()),
        "{:?}",
        changed(&first)
    );
    // The file with the certificate is not needed any more, and nothing is left to do.
    std::fs::remove_file(&outside.ca).expect("removed");
    let second = start(env, proxy, &[]);
    assert_eq!(changed(&second), [""; 0]);
    outside.pull_all(env);

    // The password is root's; the loopback is open for the node's programs and not for pods.
    env.kubby(&["ssh", "--", "stat -c %a /etc/kubby/containerd.env"])
        .ok()
        .prints("600");
    let url = format!("http://10.0.2.2:{}/v2/", outside.mirror.port);
    env.kubby(&["ssh", "--", "curl", "-sfm", "10", &url]).ok();
    env.kubectl(&["exec", "by-mirror", "--", "app", "get", &url])
        .exits(1);

    // Without the proxy in the environment, it goes; without the flags the rest stays.
    let third = start(env, None, &[]);
    assert_eq!(
        changed(&third),
        [
            "/etc/kubby/containerd.env",
            "/etc/kubby/nftables.d/host.nft"
        ]
    );
    let options = [
        "--registry-mirror",
        "--ca-certificate",
        "--insecure-registry",
    ];
    let none: Vec<&str> = options.iter().flat_map(|option| [option, "none"]).collect();
    start(env, None, &none);
    env.kubby(&["ssh", "--", "! ls /etc/containerd/certs.d/*/hosts.toml"])
        .ok();
    env.kubby(&["ssh", "--", &format!("! curl -sfm 5 {url}")])
        .ok();
    let pods = ["by-mirror", "by-authority", "by-proxy"];
    let delete = [&["delete", "pod", "--grace-period=1"][..], &pods].concat();
    env.kubectl(&delete).ok();
}

fn names_resolve_as_the_host_says(env: &Env) {
    let server = outside::name_server();
    let address = format!("127.0.0.1:{}", server.port);
    start(env, None, &["--dns", &address]);
    // Over UDP, and over TCP where the answer says so.
    for name in ["short.kubby-test", "long.kubby-test"] {
        eventually(Duration::from_secs(60), name, || {
            let run = env.kubby(&["ssh", "--", "getent", "ahostsv4", name]);
            if run.stdout.contains(RESOLVED) {
                Ok(())
            } else {
                Err(format!("{}{}\n{}", run.stdout, run.stderr, server.log()))
            }
        });
    }
    assert!(server.saw("udp short.kubby-test"), "{}", server.log());
    assert!(server.saw("tcp long.kubby-test"), "{}", server.log());

    // A pod that resolves as the node does, as the cluster's own DNS server is one.
    image::load(env);
    let manifest = env.root().join("asks.yaml");
    std::fs::write(&manifest, ASKS).expect("a file");
    env.kubectl(&["apply", "-f", &manifest.display().to_string()])
        .ok();
    eventually(POD_LIMIT, "the pod resolves", || {
        let logs = env.kubectl(&["logs", "asks"]);
        if logs.stdout.contains(&format!("pod.kubby-test {RESOLVED}")) {
            Ok(())
        } else {
            Err(format!("{}{}\n{}", logs.stdout, logs.stderr, server.log()))
        }
    });
    assert!(server.saw("pod.kubby-test"), "{}", server.log());
    env.kubectl(&["delete", "pod", "asks", "--grace-period=1"])
        .ok();
    let servers = "grep ^nameserver /run/systemd/resolve/resolv.conf";
    env.kubby(&["ssh", "--", servers]).ok().prints("10.0.2.101");
    start(env, None, &["--dns", "none"]);
    let after = env.kubby(&["ssh", "--", servers]).ok().stdout;
    assert_eq!(after.trim(), "nameserver 10.0.2.3");
}

const ASKS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  dnsPolicy: Default
  restartPolicy: OnFailure
  containers:
  - {name: asks, image: "kubby.dev/test:1", args: [resolve, pod.kubby-test]}
"#;
