//! Services reached from the host, and kubectl's ways into pods.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::env::{Env, Run, Test, eventually};
use crate::image;

pub const TESTS: &[Test] = &[
    (
        "a_service_has_an_address_here",
        a_service_has_an_address_here,
    ),
    (
        "a_load_balancer_gets_its_external_address",
        a_load_balancer_gets_its_external_address,
    ),
    (
        "services_that_cannot_be_reached_say_why",
        services_that_cannot_be_reached_say_why,
    ),
    ("a_taken_port_is_passed_over", a_taken_port_is_passed_over),
    ("kubectl_reaches_into_pods", kubectl_reaches_into_pods),
    ("addresses_last_over_a_stop", addresses_last_over_a_stop),
];

/// Time for a pod to start on a slow machine.
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

/// Applies a manifest from standard input.
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
fn says_hello(url: &str) {
    eventually(Duration::from_secs(60), url, || match get(url) {
        Ok(text) if text.contains("hello from web") => Ok(()),
        other => Err(other),
    });
}

fn a_service_has_an_address_here(env: &Env) {
    image::load(env);
    apply(env, WEB);
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

    // Made anew, it has another port of the node, and the same address here.
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

/// A program whose lines are read with a deadline, ended when it is dropped.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(env: &Env, args: &[&str]) -> Self {
        let mut command = env.kubby_command();
        command
            .args(["-p", &env.profile, "kubectl", "--"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().expect("kubectl runs");
        let out = BufReader::new(child.stdout.take().expect("stdout"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Running { child, lines }
    }

    #[track_caller]
    fn waits_for(&self, words: &str) {
        let end = Instant::now() + Duration::from_secs(90);
        let mut seen = Vec::new();
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if line.contains(words) {
                return;
            }
            seen.push(line);
        }
        panic!("`{words}` did not come; what came: {seen:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kubectl_reaches_into_pods(env: &Env) {
    env.kubectl(&["exec", "web", "--", "echo", "from", "inside"])
        .ok()
        .prints("from inside");
    env.kubectl(&["exec", "web", "--", "app", "exit"]).exits(42);
    // Standard input to its end.
    let mut command = env.kubby_command();
    command
        .args([
            "-p",
            &env.profile,
            "kubectl",
            "--",
            "exec",
            "-i",
            "web",
            "--",
            "cat",
        ])
        .stdin(
            std::fs::File::open(file!())
                .or_else(|_| std::fs::File::open("Cargo.toml"))
                .expect("a file"),
        );
    assert!(!Run::of(command).ok().stdout.is_empty());

    let here = env.root().join("sent.txt");
    std::fs::write(&here, "sent and fetched\n").expect("a file");
    let here = here.display().to_string();
    env.kubectl(&["cp", &here, "web:/tmp/there.txt"]).ok();
    env.kubectl(&["exec", "web", "--", "cat", "/tmp/there.txt"])
        .ok()
        .prints("sent and fetched");
    let back = env.root().join("back.txt");
    env.kubectl(&["cp", "web:/tmp/there.txt", &back.display().to_string()])
        .ok();
    assert_eq!(
        std::fs::read_to_string(&back).expect("the file"),
        "sent and fetched\n"
    );

    let logs = Running::start(env, &["logs", "-f", "web"]);
    logs.waits_for("serving");
    let forward = Running::start(env, &["port-forward", "service/inside", ":80"]);
    let line = forward
        .lines
        .recv_timeout(Duration::from_secs(60))
        .expect("kubectl says where");
    let address = line
        .split_whitespace()
        .find(|w| w.starts_with("127.0.0.1:"))
        .expect("an address");
    says_hello(&format!("http://{address}"));
    logs.waits_for("request /");

    env.kubectl(&[
        "run",
        "asked",
        "--image=kubby.dev/test:1",
        "--restart=Never",
        "-i",
        "--attach=false",
        "--command",
        "--",
        "lines",
    ])
    .ok();
    env.kubectl(&[
        "wait",
        "pod/asked",
        "--for=condition=Ready",
        &format!("--timeout={}s", POD_LIMIT.as_secs()),
    ])
    .ok();
    let mut attach = Running::start(env, &["attach", "-i", "asked"]);
    let stdin = attach.child.stdin.as_mut().expect("stdin");
    stdin.write_all(b"one\n").expect("sent");
    stdin.flush().expect("sent");
    attach.waits_for("got one");
    env.kubectl(&["delete", "pod", "asked", "--grace-period=1"])
        .ok();
}

fn addresses_last_over_a_stop(env: &Env) {
    let before = url(env, &["web", "--port", "http"]);
    apply(
        env,
        "apiVersion: v1\nkind: Service\nmetadata: {name: fleeting}\n\
         spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n",
    );
    let gone = url(env, &["fleeting"]);
    says_hello(&gone);
    env.kubectl(&["delete", "service", "fleeting"]).ok();
    env.kubby(&["stop"]).ok();
    assert!(get(&before).is_err());
    env.kubby(&["start"])
        .ok()
        .says("default/fleeting that it led to is gone");
    assert!(get(&gone).is_err(), "{gone} still answers");
    eventually(POD_LIMIT, &before, || match get(&before) {
        Ok(text) if text.contains("hello from web") => Ok(()),
        other => Err(other),
    });
    assert_eq!(url(env, &["web", "--port", "http"]), before);
    // Nothing is left to do for the next start.
    env.kubby(&["start"]).ok().says("they are open");
    env.kubby(&["service", "remove", "web"]).ok();
    env.kubectl(&["delete", "service", "web", "inside", "nobody"])
        .ok();
    env.kubectl(&["delete", "pod", "web", "--grace-period=1"])
        .ok();
}
