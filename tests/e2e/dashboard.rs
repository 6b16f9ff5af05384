//! Exercise 7: a page in the browser, and who else reaches it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::env::Env;
use crate::group::Test;
use crate::program::{Run, Running, eventually};

pub const TESTS: &[Test] = tests![
    a_browser_shows_what_is_in_the_cluster,
    the_page_changes_what_is_in_the_cluster,
    the_page_knows_kinds_and_logs,
    strangers_get_nothing_from_the_dashboard,
    no_page_frames_or_keeps_the_dashboard,
    the_dashboard_keeps_to_its_objects,
    a_dashboard_may_only_look,
];

/// The browser that `scripts/setup --test` installs.
const BROWSER: &str = "chromium-headless-shell";

/// The limit of a page in a browser beside a busy node.
const PAGE_LIMIT: Duration = Duration::from_secs(120);

/// A dashboard that is served, with its origin and token.
struct Served {
    child: Running,
    origin: String,
    token: String,
}

impl Served {
    fn start(env: &Env, flags: &[&str]) -> Served {
        let mut command = env.kubby_command();
        command
            .args(["-p", &env.profile, "dashboard", "--url"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = Running::start(&mut command);
        let mut url = String::new();
        BufReader::new(child.child().stdout.take().expect("stdout"))
            .read_line(&mut url)
            .expect("a line");
        let (origin, token) = url.trim().split_once("/#token=").expect("a URL");
        assert!(origin.starts_with("http://127.0.0.1:"), "{origin}");
        Served {
            origin: origin.to_owned(),
            token: token.to_owned(),
            child,
        }
    }

    /// Returns the answer to a request with these headers.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .proxy(None)
            .build()
            .new_agent();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_owned()).expect("a request");
        let mut response = agent.run(request).expect("an answer");
        let headers = response.headers().clone();
        Reply {
            status: response.status().as_u16(),
            headers,
            body: response.body_mut().read_to_string().expect("a body"),
        }
    }

    /// Asks as the page does.
    fn get(&self, path: &str) -> Reply {
        let bearer = format!("Bearer {}", self.token);
        self.ask("GET", path, &[("Authorization", &bearer)], "")
    }

    fn change(&self, what: &Value) -> Reply {
        let bearer = format!("Bearer {}", self.token);
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        self.ask("POST", "/api/change", &headers, &what.to_string())
    }

    /// Returns what a browser makes of a place on the page.
    fn page(&self, env: &Env, place: &str) -> String {
        let mut command = Command::new("timeout");
        command
            .args(["60", BROWSER])
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .arg("--dump-dom")
            .arg("--virtual-time-budget=10000")
            .arg(format!(
                "--user-data-dir={}",
                env.root().join("browser").display()
            ))
            .arg(format!("{}/#token={}{place}", self.origin, self.token))
            .stdin(Stdio::null());
        Run::of(command).stdout
    }

    /// Ends as a user ends it.
    fn end(mut self) {
        self.child.signal(Signal::TERM);
        let status = self.child.ends_within(Duration::from_secs(60));
        assert_eq!(status.code(), Some(0));
    }
}

struct Reply {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: String,
}

impl Reply {
    #[track_caller]
    fn is(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

#[track_caller]
fn shows(env: &Env, served: &Served, place: &str, all: &[&str]) {
    eventually(PAGE_LIMIT, place, || {
        let page = served.page(env, place);
        match all.iter().find(|words| !page.contains(**words)) {
            None => Ok(()),
            Some(missing) => Err(format!("no `{missing}` in {page}")),
        }
    });
}

fn a_browser_shows_what_is_in_the_cluster(env: &Env) {
    let served = Served::start(env, &[]);
    let title = format!("{} · Kubernetes v1.", env.profile);
    shows(env, &served, "/", &[&title, "control-plane", "Warnings"]);
    let pods = ["kube-system", "coredns-", "Running", "Filter"];
    shows(env, &served, "/list/-/pods", &pods);
    let deployment = ["kind: Deployment", "replicas: 1", "Restart", "Scale"];
    let place = "/object/apps/deployments/kube-system/coredns";
    shows(env, &served, place, &deployment);
    // It is text whatever it holds.
    let nasty = "<img src=x onerror=alert(1)>";
    let literal = format!("--from-literal=nasty={nasty}");
    env.kubectl(&["create", "configmap", "shown", &literal])
        .ok();
    let place = "/object/-/configmaps/default/shown";
    let text = ["&lt;img src=x onerror=alert(1)&gt;"];
    shows(env, &served, place, &text);
    assert!(!served.page(env, place).contains("<img"));
    env.kubectl(&["delete", "configmap", "shown"]).ok();
    served.end();
}

fn the_page_changes_what_is_in_the_cluster(env: &Env) {
    let served = Served::start(env, &[]);
    // Without pods, which would need an image.
    let create = [
        "create",
        "deployment",
        "paged",
        "--image=none",
        "--replicas=0",
    ];
    env.kubectl(&create).ok();
    let of = |action: &str| {
        json!({
            "action": action, "group": "apps", "version": "v1", "plural": "deployments",
            "namespace": "default", "name": "paged",
        })
    };
    let field = |path: &str| {
        let path = format!("jsonpath={{{path}}}");
        env.kubectl(&["get", "deployment", "paged", "-o", &path])
            .ok()
            .stdout
    };
    served.change(&of("restart")).is(200);
    let template = field(".spec.template.metadata.annotations");
    assert!(
        template.contains("kubectl.kubernetes.io/restartedAt"),
        "{template}"
    );
    let mut scale = of("scale");
    scale["replicas"] = json!(2);
    served.change(&scale).is(200);
    assert_eq!(field(".spec.replicas"), "2");
    let query = "group=apps&version=v1&plural=deployments&namespace=default";
    let table = served.get(&format!("/api/table?{query}")).is(200).json();
    assert_eq!(table["rows"][0]["name"], "paged");
    assert_eq!(table["rows"][0]["cells"][1], "0/2", "{table}");
    let object = served
        .get(&format!("/api/object?{query}&name=paged"))
        .is(200);
    let uid = object.json()["uid"].as_str().expect("a uid").to_owned();
    assert!(!object.body.contains("managedFields"), "{}", object.body);
    eventually(PAGE_LIMIT, "events say that it was scaled", || {
        let events = served.get(&format!("/api/events?namespace=default&uid={uid}"));
        match events.body.contains("Scaled up") {
            true => Ok(()),
            false => Err(events.body),
        }
    });
    served.change(&of("delete")).is(200);
    eventually(PAGE_LIMIT, "it is gone", || {
        let object = served.get(&format!("/api/object?{query}&name=paged"));
        match object.status {
            404 => Ok(()),
            _ => Err(object.body),
        }
    });
    // The API's own words.
    let refused = served.change(&of("restart")).is(404).json();
    let message = refused["message"].as_str().expect("a message");
    assert!(message.contains("\"paged\" not found"), "{message}");
    served.end();
}

fn the_page_knows_kinds_and_logs(env: &Env) {
    let served = Served::start(env, &[]);
    let subject = served.get("/api/subject").is(200).json();
    let kinds = subject["kinds"].as_array().expect("a list");
    let known = |plural: &str| kinds.iter().any(|kind| kind["plural"] == plural);
    assert!(
        known("pods") && known("cronjobs") && !known("tokenreviews"),
        "{subject}"
    );
    let pods = [
        "get",
        "pods",
        "-n",
        "kube-system",
        "-l",
        "k8s-app=kube-dns",
        "-o",
        "name",
    ];
    let pod = env.kubectl(&pods).ok().stdout;
    let pod = pod.trim().trim_start_matches("pod/");
    let log = format!("/api/log?namespace=kube-system&pod={pod}&container=coredns");
    let log = served.get(&log).is(200).body;
    assert!(log.contains("CoreDNS-"), "{log}");
    served.end();
}

fn strangers_get_nothing_from_the_dashboard(env: &Env) {
    let served = Served::start(env, &[]);
    let paths = [
        "/api/subject",
        "/api/table?version=v1&plural=pods",
        "/api/events",
        "/api/object?version=v1&plural=nodes&name=kubby",
        "/api/log?namespace=kube-system&pod=x&container=x",
    ];
    let wrong = format!("Bearer {}0", &served.token[1..]);
    for path in paths {
        served.ask("GET", path, &[], "").is(401);
        served
            .ask("GET", path, &[("Authorization", &wrong)], "")
            .is(401);
        // The secret is of no use in an address, which a log may keep.
        let with = format!(
            "{path}{}token={}",
            if path.contains('?') { "&" } else { "?" },
            served.token
        );
        served.ask("GET", &with, &[], "").is(401);
    }
    let bearer = format!("Bearer {}", served.token);
    // A page of another name that leads here; a tunnel's far end has another port.
    served
        .ask("GET", "/", &[("Host", "localhost:9")], "")
        .is(200);
    for host in ["evil.example", "evil.example:80"] {
        let headers = [("Host", host), ("Authorization", bearer.as_str())];
        served.ask("GET", paths[0], &headers, "").is(421);
        served.ask("GET", "/", &headers[..1], "").is(421);
    }
    let delete = r#"{"action":"delete","version":"v1","plural":"nodes","name":"kubby"}"#;
    let json = ("Content-Type", "application/json");
    served.ask("POST", "/api/change", &[json], delete).is(401);
    let plain = [
        ("Content-Type", "text/plain"),
        ("Authorization", bearer.as_str()),
    ];
    served.ask("POST", "/api/change", &plain, delete).is(415);
    env.kubectl(&["get", "node", "kubby"]).ok();
    served.end();
}

fn no_page_frames_or_keeps_the_dashboard(env: &Env) {
    let served = Served::start(env, &[]);
    let page = served.ask("GET", "/", &[], "").is(200);
    let header = |name: &str| page.headers[name].to_str().expect("text").to_owned();
    let policy = header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(header("cache-control"), "no-store");
    assert!(page.headers.get("access-control-allow-origin").is_none());
    served.ask("GET", "/..%2f..%2fapi.rs", &[], "").is(404);
    served.end();
}

fn the_dashboard_keeps_to_its_objects(env: &Env) {
    let served = Served::start(env, &[]);
    // No name leads elsewhere in the API, and no Secret's value gets into a browser.
    for name in ["..", "a/b", "..%2f..%2fsecrets", "kubby/proxy/logs"] {
        let name = name.replace('%', "%25").replace('/', "%2f");
        let path = format!("/api/object?version=v1&plural=nodes&name={name}");
        served.get(&path).is(400);
    }
    let secret = "--from-literal=password=not-for-browsers";
    env.kubectl(&["create", "secret", "generic", "kept", secret])
        .ok();
    let query = "version=v1&plural=secrets&namespace=default";
    let object = served
        .get(&format!("/api/object?{query}&name=kept"))
        .is(200);
    let yaml = object.json()["yaml"].as_str().expect("text").to_owned();
    assert!(yaml.contains("password: (16 bytes, not shown)"), "{yaml}");
    served.get(&format!("/api/table?{query}")).is(200);
    env.kubectl(&["delete", "secret", "kept"]).ok();
    served.end();
}

fn a_dashboard_may_only_look(env: &Env) {
    let served = Served::start(env, &["--read-only"]);
    assert_eq!(served.get("/api/subject").is(200).json()["readOnly"], true);
    let delete =
        json!({"action": "delete", "version": "v1", "plural": "namespaces", "name": "default"});
    let refused = served.change(&delete).is(403);
    assert!(refused.body.contains("--read-only"), "{}", refused.body);
    env.kubectl(&[
        "get",
        "namespace",
        "default",
        "-o",
        "jsonpath={.status.phase}",
    ])
    .ok()
    .prints("Active");
    let port = served.origin.rsplit(':').next().expect("a port").to_owned();
    env.kubby(&["dashboard", "--url", "--port", &port])
        .exits(10)
        .says(&format!("cannot listen on port {port}"));
    served.end();
    env.kubby_on("never-made", &["dashboard"])
        .exits(15)
        .says("there is no cluster named `never-made`");
}
