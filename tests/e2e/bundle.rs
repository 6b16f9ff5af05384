//! What `kubby logs --bundle` collects, without secrets.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;

use crate::env::Env;
use crate::group::Test;
use crate::program::{Run, eventually};
use crate::saving::{delete, folder, kubectl};
use crate::throwaway::kept;

pub const TESTS: &[Test] = tests![a_bundle_has_no_secrets, a_bundle_of_a_dead_node];

/// A bundle's files by their names in it.
pub struct Unpacked(BTreeMap<String, String>);

impl Unpacked {
    #[track_caller]
    pub fn of(file: &Path) -> Self {
        let mode = std::fs::metadata(file)
            .expect("the bundle")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        Self::read(&std::fs::read(file).expect("the bundle"))
    }

    #[track_caller]
    fn read(bytes: &[u8]) -> Self {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
        let mut files = BTreeMap::new();
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let (_, name) = path.split_once('/').expect("one folder");
            let (name, mut text) = (name.to_owned(), String::new());
            entry.read_to_string(&mut text).expect("text");
            files.insert(name, text);
        }
        Unpacked(files)
    }

    /// Returns all files with their texts.
    pub fn all(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }

    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        let names: Vec<&String> = self.0.keys().collect();
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {names:?}"))
    }
}

fn random() -> String {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \\n'"]);
    Run::of(command).ok().stdout
}

/// Returns the lines of all private keys, and of the kubeconfig's, that the profile has.
fn keys(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for inner in ["pki", "ssh", "."] {
        for entry in std::fs::read_dir(folder.join(inner)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.contains("PRIVATE KEY-----") {
                let lines = text
                    .lines()
                    .filter(|l| l.len() > 30 && !l.starts_with("--"));
                found.extend(lines.map(str::to_owned));
            } else if let Some((_, data)) = text.split_once("client-key-data: ") {
                let data = data.lines().next().expect("a line").trim_matches('"');
                found.push(data.to_owned());
            }
        }
    }
    found
}

/// Plants secrets in a Secret, a pod, and the journal, and returns them in each form that they have.
/// The last is a proxy's password.
fn plant(env: &Env, name: &str) -> Vec<String> {
    let [secret, variable, argument, message, proxy] = std::array::from_fn(|_| random());
    let literal = format!("--from-literal=password={secret}");
    let create = ["create", "secret", "generic", "planted", &literal];
    kubectl(env, name, &create).ok();
    let pod = format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "planted"}}, "spec":
        {{"containers": [{{"name": "c", "image": "planted.invalid/x:1", "args": ["{argument}"],
        "env": [{{"name": "DB_PASSWORD", "value": "{variable}"}}]}}]}}}}"#
    );
    let file = env.root().join("planted.json");
    std::fs::write(&file, pod).expect("a file");
    kubectl(env, name, &["apply", "-f", file.to_str().expect("a path")]).ok();
    let token = kubectl(env, name, &["create", "token", "default"])
        .ok()
        .stdout;
    let token = token.trim();
    // A program that is careless with all of them.
    let log = format!(
        "(echo planted-begin; echo found {secret} and {variable}; echo got {token}; \
         echo password={message}; echo via http://me:{proxy}@proxy.example:3128; \
         cat /etc/ssh/ssh_host_ed25519_key; echo planted-end) | systemd-cat -t careless; \
         journalctl --sync"
    );
    env.kubby_on(name, &["ssh", "--", &log]).ok();

    eventually(
        Duration::from_secs(120),
        "the pod's image is asked for",
        || {
            let events = kubectl(env, name, &["get", "events"]).stdout;
            let there = events.contains("planted.invalid/x:1");
            there.then_some(()).ok_or(events)
        },
    );
    let encoded = base64::engine::general_purpose::STANDARD.encode(&secret);
    let signature = token.rsplit('.').next().expect("a signature").to_owned();
    [
        encoded, signature, secret, variable, argument, message, proxy,
    ]
    .into()
}

/// Checks that the bundle has what it is for, or its lack of secrets would prove nothing.
#[track_caller]
fn is_whole(bundle: &Unpacked) {
    let journal = bundle.text("node/journal.txt");
    for word in [
        "planted-begin",
        "planted-end",
        "found (left out) and (left out)",
    ] {
        assert!(journal.contains(word), "no `{word}`");
    }
    for (part, word) in [
        ("cluster/pods.json", "DB_PASSWORD"),
        ("cluster/pods.txt", "planted"),
        ("cluster/events.txt", "planted.invalid/x:1"),
        ("node/journal-etcd.txt", "etcd"),
        ("node/system.txt", "kubelet"),
        ("node/containers.txt", "coredns"),
        ("versions.txt", "QEMU: 1"),
        ("status.json", "\"apiserver\": \"Running\""),
        ("profile.toml", "kubernetes_version"),
        ("domain.xml", "<domain"),
        ("host.json", "HTTPS_PROXY"),
    ] {
        assert!(bundle.text(part).contains(word), "no `{word}` in {part}");
    }
}

fn a_bundle_has_no_secrets(env: &Env) {
    let name = kept(env);
    let mut secrets = plant(env, &name);
    let proxy = secrets.last().expect("the proxy's password");
    let proxy = format!("http://me:{proxy}@10.1.2.3:3128");
    let file = env.root().join("bundle.tar.gz");
    let path = file.to_str().expect("a path");
    let mut command = env.kubby_command();
    command
        .args(["-p", &name, "logs", "-o", "json", "--bundle", path])
        .env("HTTPS_PROXY", proxy);
    let run = Run::of(command).ok();
    note!("bundle: {:.1} s", run.took.as_secs_f64());
    let problems = &run.json()["problems"];
    assert_eq!(*problems, serde_json::json!([]), "{}", run.stderr);
    let bundle = Unpacked::of(&file);
    is_whole(&bundle);
    let keys = keys(&folder(env, &name));
    assert!(keys.len() > 10, "{} keys only", keys.len());
    secrets.extend(keys);
    secrets.push("PRIVATE KEY".into());
    for (part, text) in &bundle.0 {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "`{secret}` is in {part}");
        }
    }
}

fn a_bundle_of_a_dead_node(env: &Env) {
    let name = kept(env);
    env.virsh(&["destroy", &format!("kubby-{name}")]).ok();
    let mut command = env.kubby_command();
    command.args(["-p", &name, "logs", "--bundle", "-"]);
    let output = command.output().expect("kubby runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("the node does not run"), "{stderr}");
    let bundle = Unpacked::read(&output.stdout);
    for part in ["problems.txt", "status.json"] {
        assert!(
            bundle.text(part).contains("Stopped"),
            "{}",
            bundle.text(part)
        );
    }
    for part in ["console.txt", "domain.xml", "profile.toml", "versions.txt"] {
        assert!(!bundle.text(part).is_empty());
    }
    delete(env, &name);
}
