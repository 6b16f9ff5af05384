//! kubby's edits of kubeconfig files as kubectl sees them. Needs a real kubectl: the one in
//! `PATH`, or the program that `KUBBY_TEST_KUBECTL` names.
//!
//! Of the generated files, 200 go through kubectl one by one, and 4000 more in batches of 50, which
//! it reads and merges as one configuration: a start of kubectl costs more than reading thousands
//! of entries. `KUBBY_TEST_KUBECONFIGS` sets another number in place of the 4000,
//! `KUBBY_TEST_SEED` the seed of the first one. A failure names the seed of the file.

#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail by panic")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kubby::testing::kubeconfig::{
    ComponentConfig, Entry, Owner, State, inspect, install, render, render_component, uninstall,
};
use serde_json::Value;

#[path = "../src/kubeconfig/generate.rs"]
mod generate;

/// Files that exercise what the generator does not.
const HANDWRITTEN: &[&str] = &[
    "",
    "# only a comment\n",
    "---\n",
    "{}\n",
    "kind: Config\n",
    // YAML 1.1 words, dates, numbers in an extension, as kubectl reads them.
    "apiVersion: v1\nkind: Config\nclusters:\n- name: a\n  cluster:\n    server: https://a\n    extensions:\n    - name: e\n      extension: {yes: no, d: 2001-12-14, o: 0o17, x: 0x1F, n: ~, f: 1e3, s: \"1\"}\n",
    // Merge keys and anchors, which kubectl understands.
    "kind: Config\nx-base: &base\n  server: https://a\nclusters:\n- name: a\n  cluster:\n    <<: *base\n    tls-server-name: t\n- name: b\n  cluster: *base\nusers: []\n",
    // An alias for a whole list: cannot be edited in place.
    "kind: Config\nx: &l\n- name: a\n  cluster: {server: https://a}\nclusters: *l\n",
    // Tabs between tokens and in JSON.
    "kind:\tConfig\t# tab\nclusters:\n- name:\ta\t\n",
    "{\n\t\"kind\":\t\"Config\",\n\t\"users\":\t[\n\t\t{\"name\":\t\"a\", \"user\": {}}\n\t]\n}",
    // Folded and literal text, non-ASCII.
    "kind: Config\nusers:\n- name: zürich 北京\n  user:\n    token: >\n      folded\n      text\n\n      more\n    username: |+\n      kept\n\n",
    "kind: Config\r\ncurrent-context: a\r\ncontexts:\r\n- name: a\r\n  context:\r\n    cluster: c\r\n    user: u\r\n    namespace: ns\r\n...\r\n",
    "\u{feff}kind: Config\nclusters: null\n",
    "kind: Config\nclusters: [ # none yet\n  ]\n",
    "kind: Config\npreferences:\n  colors: true\n  extensions:\n  - name: p\n    extension: {a: b}\nextensions:\n- name: top\n  extension: {c: [1, 2]}\n",
];

fn program() -> OsString {
    std::env::var_os("KUBBY_TEST_KUBECTL").unwrap_or_else(|| "kubectl".into())
}

fn kubectl(file: &Path, args: &[&str]) -> Output {
    let program = program();
    Command::new(&program)
        .args(args)
        .arg("--kubeconfig")
        .arg(file)
        .env_remove("KUBECONFIG")
        .output()
        .unwrap_or_else(|e| {
            panic!("cannot run {program:?}: {e}; install kubectl or set KUBBY_TEST_KUBECTL")
        })
}

fn view(file: &Path) -> Result<Value, String> {
    let output = kubectl(file, &["config", "view", "--raw", "--output", "json"]);
    parsed(&output)
}

/// What kubectl makes of many files together.
fn view_all(files: &[PathBuf]) -> Result<Value, String> {
    let output = Command::new(program())
        .args(["config", "view", "--raw", "--output", "json"])
        .env("KUBECONFIG", std::env::join_paths(files).unwrap())
        .output()
        .unwrap_or_else(|e| panic!("cannot run kubectl: {e}"));
    parsed(&output)
}

fn parsed(output: &Output) -> Result<Value, String> {
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).expect("kubectl prints JSON"))
}

fn entry(name: &str) -> Entry {
    Entry {
        name: name.into(),
        server: "https://127.0.0.1:6443".into(),
        ca_pem: "-----BEGIN CERTIFICATE-----\nCA\n".into(),
        client_cert_pem: "-----BEGIN CERTIFICATE-----\nME\n".into(),
        client_key_pem: "-----BEGIN PRIVATE KEY-----\nKEY\n".into(),
        owner: Owner {
            profile: name.into(),
            home: "/home/u/.kubby".into(),
        },
    }
}

fn names(view: &Value, list: &str) -> BTreeSet<String> {
    let items = view[list].as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .map(|i| i["name"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// kubectl's view without the entries of a name, and without a current context of that name.
fn without(mut view: Value, name: &str, before: &Value) -> Value {
    for list in ["clusters", "users", "contexts"] {
        if let Some(items) = view[list].as_array_mut() {
            items.retain(|item| item["name"] != name);
            if items.is_empty() {
                view[list] = Value::Null;
            }
        }
    }
    if view["current-context"] == name {
        view["current-context"] = before["current-context"].clone();
    }
    view
}

/// Merges into the file and removes again, comparing what kubectl sees at each step.
fn round_trip(path: &Path, text: &str, set_current: bool) {
    fs::write(path, text).unwrap();
    let before = view(path).unwrap_or_else(|e| panic!("kubectl refuses the file: {e}\n{text}"));
    let kubby = entry("kubby");
    install(path, &kubby, set_current).unwrap_or_else(|e| panic!("{e} {:?}\n{text}", e.causes()));
    let merged = fs::read_to_string(path).unwrap();
    let during = view(path).unwrap_or_else(|e| panic!("{e}\n{text}\n--- merged\n{merged}"));
    for list in ["clusters", "users", "contexts"] {
        assert!(names(&during, list).contains("kubby"), "{list}\n{merged}");
    }
    if set_current {
        assert_eq!(during["current-context"], "kubby", "{merged}");
    }
    assert_eq!(
        without(during, "kubby", &before),
        before,
        "{text}\n--- merged\n{merged}"
    );
    assert!(uninstall(path, "kubby", &kubby.owner).unwrap());
    let after = view(path).unwrap();
    let mut expected = before;
    if set_current {
        expected["current-context"] = "".into();
    }
    assert_eq!(after, expected, "{text}\n--- merged\n{merged}");
    assert_eq!(
        fs::read_dir(path.parent().unwrap()).unwrap().count(),
        usize::from(path.exists())
    );
}

#[test]
fn kubectl_sees_the_same_before_and_after_but_for_kubby_s_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    for (i, text) in HANDWRITTEN.iter().enumerate() {
        round_trip(&path, text, i % 2 == 0);
    }
    let first = variable("KUBBY_TEST_SEED", 1_000_000);
    in_parallel(200, |n| one_by_one(first + n));
}

#[test]
fn kubectl_sees_the_same_of_thousands_of_files() {
    const BATCH: u64 = 50;
    let first = variable("KUBBY_TEST_SEED", 2_000_000);
    let count = variable("KUBBY_TEST_KUBECONFIGS", 4000);
    in_parallel(count.div_ceil(BATCH), |n| {
        let begin = first + n * BATCH;
        let seeds = begin..(begin + BATCH).min(first + count);
        let result = std::panic::catch_unwind(|| batch(seeds.clone()));
        if let Err(why) = result {
            // One of them alone says more; where none does, it is how they come together.
            seeds.for_each(one_by_one);
            std::panic::resume_unwind(why);
        }
    });
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Does something with each number below `count`, on all processors.
fn in_parallel(count: u64, act: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    act(n);
                }
            });
        }
    });
}

/// One generated file, with all that kubectl says of it, the current context included.
fn one_by_one(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let text = generate::kubeconfig(&mut generate::Random::new(seed));
    let result = std::panic::catch_unwind(|| {
        round_trip(&dir.path().join("config"), &text, seed.is_multiple_of(2));
    });
    if let Err(why) = result {
        let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
        panic!("the file of seed {seed} (KUBBY_TEST_SEED={seed}): {why}\n{text}");
    }
}

/// Generated files whose names differ, read by kubectl together: before, with an entry of kubby's
/// in each, and after. The current context of a batch is that of its first file that has one, so
/// here it stays as it is.
fn batch(seeds: std::ops::Range<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<(PathBuf, Entry)> = seeds
        .clone()
        .map(|seed| {
            let path = dir.path().join(seed.to_string());
            let text = generate::kubeconfig(&mut generate::Random::unique(seed));
            fs::write(&path, text).unwrap();
            (path, entry(&format!("kubby-{seed}")))
        })
        .collect();
    let paths: Vec<PathBuf> = files.iter().map(|f| f.0.clone()).collect();
    let of_batch =
        |what: &str| format!("{what}, seeds {seeds:?} (KUBBY_TEST_SEED={})", seeds.start);
    let view = || view_all(&paths).unwrap_or_else(|e| panic!("{}: {e}", of_batch("refused")));
    let before = view();
    for (path, kubby) in &files {
        install(path, kubby, false).unwrap_or_else(|e| panic!("{}: {e}", of_batch("merging")));
    }
    let mut during = view();
    for (_, kubby) in &files {
        for list in ["clusters", "users", "contexts"] {
            let there = names(&during, list).contains(&kubby.name);
            assert!(there, "{}: {list} {}", of_batch("merged"), kubby.name);
        }
        during = without(during, &kubby.name, &before);
    }
    assert_eq!(during, before, "{}", of_batch("merged"));
    for (path, kubby) in &files {
        let removed = uninstall(path, &kubby.name, &kubby.owner);
        assert!(removed.unwrap(), "{}", of_batch("removing"));
    }
    assert_eq!(view(), before, "{}", of_batch("removed"));
}

#[test]
fn what_kubectl_writes_is_understood_and_the_other_way_round() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    let kubby = entry("kubby");
    install(&path, &kubby, true).unwrap();
    let run = |args: &[&str]| {
        let output = kubectl(&path, args);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    // kubectl rewrites the whole file in its own way: the mark and the entry must survive.
    run(&["config", "set-context", "kubby", "--namespace", "dev"]);
    run(&[
        "config",
        "set-cluster",
        "other",
        "--server",
        "https://other",
    ]);
    let text = fs::read_to_string(&path).unwrap();
    let status = inspect(Some(&text), &kubby).unwrap();
    assert_eq!(
        (status.state, status.current),
        (State::Configured, true),
        "{text}"
    );
    assert!(
        !install(&path, &kubby, true).unwrap(),
        "nothing left to change"
    );
    // A moved API port is mended without losing the namespace.
    let moved = Entry {
        server: "https://127.0.0.1:7777".into(),
        ..kubby
    };
    assert!(install(&path, &moved, true).unwrap());
    let seen = view(&path).unwrap();
    assert_eq!(seen["contexts"][0]["context"]["namespace"], "dev");
    assert_eq!(
        seen["clusters"][0]["cluster"]["server"],
        "https://127.0.0.1:7777"
    );
    run(&["config", "use-context", "kubby"]);
    assert!(uninstall(&path, "kubby", &moved.owner).unwrap());
    let seen = view(&path).unwrap();
    assert_eq!(names(&seen, "clusters"), ["other".to_owned()].into());
    assert_eq!(seen["current-context"], "");
    run(&["config", "delete-cluster", "other"]);
}

#[test]
fn rendered_files_are_what_kubectl_takes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    fs::write(&path, render(&entry("kubby"))).unwrap();
    assert_eq!(view(&path).unwrap()["current-context"], "kubby");
    let config = ComponentConfig {
        name: "kube-scheduler",
        server: "https://127.0.0.1:6443",
        ca_pem: "CA",
        cert_pem: "CERT",
        key_pem: "KEY",
    };
    fs::write(&path, render_component(&config)).unwrap();
    let seen = view(&path).unwrap();
    assert_eq!(
        seen["clusters"][0]["cluster"]["server"],
        "https://127.0.0.1:6443"
    );
    assert_eq!(
        seen["contexts"][0]["context"]["cluster"],
        seen["clusters"][0]["name"]
    );
    assert_eq!(
        seen["contexts"][0]["context"]["user"],
        seen["users"][0]["name"]
    );
    assert_eq!(seen["contexts"][0]["name"], seen["current-context"]);
    assert_eq!(seen["users"][0]["user"]["client-key-data"], "S0VZ");
}

fn eight_names() -> Vec<String> {
    (0..8).map(|i| format!("kubby-{i}")).collect()
}

/// Runs something for each of the eight names at the same time.
fn all_at_once(act: impl Fn(usize, &str) + Sync) {
    let act = &act;
    std::thread::scope(|scope| {
        for (i, name) in eight_names().into_iter().enumerate() {
            scope.spawn(move || act(i, &name));
        }
    });
}

#[test]
fn eight_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    fs::write(&path, "kind: Config\nclusters: # mine\n- name: mine\n").unwrap();
    // Half of them by way of a link, under which kubectl would take another lock.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("config", &link).unwrap();
    let by = |i: usize| if i < 4 { &path } else { &link };
    for _ in 0..5 {
        all_at_once(|i, name| {
            install(by(i), &entry(name), i % 2 == 0).unwrap();
        });
        let mut all: BTreeSet<String> = eight_names().into_iter().collect();
        let seen = view(&path).unwrap();
        assert_eq!(names(&seen, "users"), all);
        all.insert("mine".into());
        assert_eq!(names(&seen, "clusters"), all);
        all_at_once(|i, name| {
            assert!(uninstall(by(7 - i), name, &entry(name).owner).unwrap());
        });
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("kind: Config\nclusters: # mine\n- name: mine\n"),
            "{text}"
        );
        assert_eq!(names(&view(&path).unwrap(), "users"), BTreeSet::new());
    }
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        2,
        "no lock is left"
    );
}

/// Calls `kubectl config use-context` until `done` is set and counts how often it succeeded. It
/// gives up at once when it finds a lock, and that is all that may go wrong.
fn switch_contexts(path: &Path, done: &AtomicBool) -> usize {
    let mut switched = 0;
    while !done.load(Ordering::Relaxed) {
        for name in ["a", "b"] {
            let output = kubectl(path, &["config", "use-context", name]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            let locked = stderr.contains(".lock") && stderr.contains("exists");
            assert!(output.status.success() || locked, "{stderr}");
            switched += usize::from(output.status.success());
        }
    }
    switched
}

#[test]
fn kubectl_changing_the_file_at_the_same_time_corrupts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    for name in ["a", "b"] {
        install(&path, &entry(name), true).unwrap();
    }
    let done = AtomicBool::new(false);
    let switched = std::thread::scope(|scope| {
        let switcher = scope.spawn(|| switch_contexts(&path, &done));
        for _ in 0..60 {
            // Two threads, so that kubby competes with itself as well.
            std::thread::scope(|inner| {
                for name in ["c", "d"] {
                    let path = &path;
                    inner.spawn(move || {
                        install(path, &entry(name), false).unwrap();
                        uninstall(path, name, &entry(name).owner).unwrap();
                    });
                }
            });
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        done.store(true, Ordering::Relaxed);
        switcher
            .join()
            .expect("kubectl fails for no other reason than the lock")
    });
    assert!(switched > 0, "kubectl never got its turn");
    let seen = view(&path).unwrap();
    for list in ["clusters", "users", "contexts"] {
        let names = names(&seen, list);
        assert!(
            names.is_superset(&["a".to_owned(), "b".to_owned()].into()),
            "{list}: {names:?}"
        );
    }
    assert!(
        ["a", "b"]
            .iter()
            .any(|name| seen["current-context"] == *name)
    );
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no lock is left"
    );
}
