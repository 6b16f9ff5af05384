//! Services reached from the host.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;

use crate::env::Env;
use crate::group::Test;
use crate::image;
use crate::program::{Run, eventually};

pub const TESTS: &[Test] = tests![
    a_service_has_an_address_here,
    a_load_balancer_gets_its_external_address,
    services_that_cannot_be_reached_say_why,
    a_taken_port_is_passed_over,
];

/// The limit of a pod's start on a slow machine.
const POD_LIMIT: Duration = Duration::from_secs(180);

const WEB: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: web, image: "kubby.dev/test:1", ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: datagrams, port: 53, targetPort: 8080, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: inside}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {type: NodePort, selector: {app: ghost}, ports: [{port: 80}]}
"#;

/// Applies a manifest.
fn apply(env: &Env, manifest: &str) {
    let file = env.root().join("manifest.yaml");
    std::fs::write(&file, manifest).expect("a file");
    env.kubectl(&["apply", "-f", &file.display().to_string()])
        .ok();
}

fn url(env: &Env, args: &[&str]) -> String {
    let all: Vec<&str> = ["service", "--url"].iter().chain(args).copied().collect();
    let run = env.kubby(&all).ok();
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    run.stdout.trim().to_owned()
}

/// `GET /` at `http://127.0.0.1:PORT`.
fn get(url: &str) -> Result<String, String> {
    let address = url.strip_prefix("http://").expect("http");
    let fail = |e: std::io::Error| e.to_string();
    let address = address.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(fail)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .map_err(fail)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(fail)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}

#[track_caller]
pub fn says_hello(url: &str) {
    eventually(Duration::from_secs(60), url, || match get(url) {
        Ok(text) if text.contains("hello from web") => Ok(()),
        other => Err(other),
    });
}

fn make_web(env: &Env) {
    image::load(env);
    env.once("web", || apply(env, WEB));
}

/// Makes the pod and its Services, and waits until it serves.
pub fn web(env: &Env) {
    make_web(env);
    ready(env, "web");
}

pub fn ready(env: &Env, pod: &str) {
    let pod = format!("pod/{pod}");
    let limit = format!("--timeout={}s", POD_LIMIT.as_secs());
    env.kubectl(&["wait", &pod, "--for=condition=Ready", &limit])
        .ok();
}

fn a_service_has_an_address_here(env: &Env) {
    make_web(env);
    // Asked at once: it waits for the pod by itself.
    let wait = POD_LIMIT.as_secs().to_string();
    let first = url(env, &["web", "--port", "http", "--wait", &wait]);
    says_hello(&first);
    assert_eq!(url(env, &["web", "--port", "80"]), first);

    let udp = url(env, &["web", "--port", "datagrams"]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout");
    eventually(Duration::from_secs(60), &udp, || {
        let address = udp.strip_prefix("udp://").expect("udp");
        socket.send_to(b"a", address).expect("sent");
        let mut buffer = [0; 64];
        match socket.recv(&mut buffer) {
            Ok(n) if &buffer[..n] == b"echo a" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });

    let list = env.kubby(&["service", "list", "-o", "json"]).ok().json();
    let services = list["services"].as_array().expect("a list");
    let web = services
        .iter()
        .find(|s| s["name"] == "web")
        .expect("the Service");
    assert_eq!(web["ports"][0]["url"], first);
    assert_eq!(web["ports"][1]["url"], udp);
    let inside = services
        .iter()
        .find(|s| s["name"] == "inside")
        .expect("the Service");
    assert_eq!(inside["ports"][0]["url"], Value::Null);
    env.kubby(&["service", "web"])
        .ok()
        .prints("NodePort")
        .prints(&first)
        .prints(&udp);

    // Made again, it has another port of the node, and the same address here.
    env.kubectl(&["delete", "service", "web"]).ok();
    apply(env, WEB);
    assert_eq!(url(env, &["web", "--port", "http"]), first);
    says_hello(&first);

    env.kubby(&["service", "remove", "web"]).ok();
    assert!(get(&first).is_err(), "{first} still answers");
    env.kubby(&["service", "remove", "web"])
        .exits(15)
        .says("service -p")
        .says("list");
}

fn a_load_balancer_gets_its_external_address(env: &Env) {
    web(env);
    let port = 18080 + u16::try_from(std::process::id() % 1000).expect("small");
    apply(
        env,
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: balanced}}\n\
             spec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: {port}, targetPort: 8080}}]}}\n"
        ),
    );
    let external = || {
        let query = "jsonpath={.status.loadBalancer.ingress[0].hostname}";
        env.kubectl(&["get", "service", "balanced", "-o", query])
            .ok()
            .stdout
    };
    assert_eq!(external(), "");
    let url = url(env, &["balanced"]);
    assert_eq!(url, format!("http://127.0.0.1:{port}"));
    says_hello(&url);
    assert_eq!(external(), "localhost");
    env.kubby(&["service", "rm", "balanced"]).ok();
    assert_eq!(external(), "");
    env.kubectl(&["delete", "service", "balanced"]).ok();
}

fn services_that_cannot_be_reached_say_why(env: &Env) {
    web(env);
    env.kubby(&["service", "inside"])
        .exits(15)
        .says("ClusterIP")
        .says("port-forward service/inside 8080:80");
    env.kubby(&["service", "unknown"])
        .exits(15)
        .says("no Service `unknown`")
        .says("default/web (NodePort)");
    env.kubby(&["service", "web", "-n", "kube-system"])
        .exits(15)
        .says("web -n default");
    env.kubby(&["service", "nobody", "--wait", "1"])
        .exits(14)
        .says("app=ghost");
    env.kubby(&["service", "web", "--port", "metrics"])
        .exits(2)
        .says("http/80");
    env.kubby(&["service", "web", "--host-port", "18000"])
        .exits(2)
        .says("several ports");
}

fn a_taken_port_is_passed_over(env: &Env) {
    web(env);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = taken.local_addr().expect("an address").port().to_string();
    env.kubby(&["service", "web", "--port", "http", "--host-port", &port])
        .exits(10)
        .says("is taken");
    let query = "jsonpath={.spec.ports[0].nodePort}";
    let node = env
        .kubectl(&["get", "service", "web", "-o", query])
        .ok()
        .stdout;
    let other = TcpListener::bind(format!("127.0.0.1:{node}"));
    let url = url(env, &["web", "--port", "http"]);
    if other.is_ok() {
        assert!(!url.ends_with(&format!(":{node}")), "{url}");
    }
    says_hello(&url);
    drop(taken);
    // Now it can have the port.
    let asked = env
        .kubby(&[
            "service",
            "--url",
            "web",
            "--port",
            "http",
            "--host-port",
            &port,
        ])
        .ok();
    assert_eq!(asked.stdout.trim(), format!("http://127.0.0.1:{port}"));
    says_hello(asked.stdout.trim());
}

/// Addresses of Services before a stop.
pub struct Addresses {
    lasting: String,
    fleeting: String,
}

impl Addresses {
    /// Opens two, of which the Service of one is gone before the stop.
    pub fn open(env: &Env) -> Self {
        web(env);
        let lasting = url(env, &["web", "--port", "http"]);
        apply(
            env,
            "apiVersion: v1\nkind: Service\nmetadata: {name: fleeting}\n\
             spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n",
        );
        let fleeting = url(env, &["fleeting"]);
        says_hello(&fleeting);
        env.kubectl(&["delete", "service", "fleeting"]).ok();
        Addresses { lasting, fleeting }
    }

    /// Checks that nothing answers while the cluster is stopped.
    #[track_caller]
    pub fn are_closed(&self) {
        assert!(get(&self.lasting).is_err());
    }

    /// Checks what the start says, and that the address of the Service that is left is the same.
    #[track_caller]
    pub fn last(&self, env: &Env, start: &Run) {
        let gone = "default/fleeting that it led to is gone";
        assert!(start.stderr.contains(gone), "{}", start.stderr);
        let fleeting = &self.fleeting;
        assert!(get(fleeting).is_err(), "{fleeting} still answers");
        let lasting = &self.lasting;
        eventually(POD_LIMIT, lasting, || match get(lasting) {
            Ok(text) if text.contains("hello from web") => Ok(()),
            other => Err(other),
        });
        assert_eq!(url(env, &["web", "--port", "http"]), *lasting);
        // Nothing is left to do for the next start.
        env.kubby(&["start"]).ok().says("they are open");
        env.kubby(&["service", "remove", "web"]).ok();
    }
}
