//! Places without secrets: arguments and environments of processes, and logs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::env::Env;
use crate::group::Test;
use crate::program::Run;
use crate::saving::{delete, folder, named};

pub const TESTS: &[Test] = tests![a_start_shows_no_secret,];

/// The arguments and environments of all processes, again and again until it is enough.
fn watch(done: &AtomicBool) -> HashSet<Vec<u8>> {
    let mut seen = HashSet::new();
    let mut last = HashMap::new();
    while !done.load(Ordering::Relaxed) {
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            if !entry.file_name().as_encoded_bytes()[0].is_ascii_digit() {
                continue;
            }
            // The environment is another one only where the program is.
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if last.get(&entry.file_name()) != Some(&line) {
                seen.insert(fs::read(entry.path().join("environ")).unwrap_or_default());
                seen.insert(line.clone());
                last.insert(entry.file_name(), line);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    seen
}

/// Parts of all private keys below a folder that are in nothing else, by the file.
fn parts(folder: &Path, into: &mut BTreeMap<String, Vec<String>>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            parts(&path, into);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut found = Vec::new();
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with("-----") {
                inside = line.starts_with("-----BEGIN") && line.contains("PRIVATE KEY");
            } else if inside && line.len() >= 40 {
                found.push(line.to_owned());
            } else if let Some((_, data)) = line.split_once("client-key-data: ") {
                // Past what every key in PEM begins with.
                found.push(data[80..140].to_owned());
            }
        }
        // OpenSSH's keys begin alike, and hold the public one as well.
        if text.contains("OPENSSH") {
            found.drain(..found.len().saturating_sub(2));
        }
        if !found.is_empty() {
            into.insert(path.display().to_string(), found);
        }
    }
}

fn a_start_shows_no_secret(env: &Env) {
    let name = named(env, "watched");
    let done = AtomicBool::new(false);
    let (run, processes) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&done));
        let run = env.kubby_on(
            &name,
            &["start", "--keep-context", "--verbose", "-o", "json"],
        );
        done.store(true, Ordering::Relaxed);
        (run.ok(), watcher.join().expect("the watcher"))
    });
    let domain = format!("kubby-{name}");
    let mut keys = BTreeMap::new();
    parts(&folder(env, &name), &mut keys);
    assert!(keys.len() > 10, "found {} keys only", keys.len());

    // What was watched is what was to be watched.
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let processes: Vec<String> = processes.iter().map(text).collect();
    for mark in [format!("guest={domain},"), format!("KUBBY_PROFILE={name}")] {
        assert!(processes.iter().any(|p| p.contains(&mark)), "no {mark}");
    }
    let mut places = vec![
        ("the results", run.stdout),
        ("the messages", run.stderr),
        ("the processes", processes.join("\n")),
    ];
    let of = |args: &[&str]| env.kubby_on(&name, args).ok().stdout;
    places.push(("the console", of(&["logs", "--console", "-n", "100000"])));
    let journal = of(&["ssh", "--", "journalctl -b --no-pager -o cat"]);
    assert!(journal.lines().count() > 100, "{journal}");
    places.push(("the journal", journal));
    let others = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'";
    let inside = of(&["ssh", "--", others]);
    assert!(inside.contains("kube-apiserver"), "{inside}");
    places.push(("the node's processes", inside));
    let log = format!("/var/log/libvirt/qemu/{domain}.log");
    if let Ok(log) = fs::read(&log) {
        assert!(
            text(&log).contains(&domain),
            "the log is of another machine"
        );
        places.push(("QEMU's log", text(&log)));
    }
    for (place, text) in &places {
        for (file, parts) in &keys {
            let shown = parts.iter().any(|part| text.contains(part));
            assert!(!shown, "{place} show the key {file}");
        }
        assert!(!text.contains("PRIVATE KEY-----"), "{place} show a key");
    }
    // The definition that libvirt shows to its users.
    let xml: Run = env.virsh(&["dumpxml", "--security-info", &domain]).ok();
    assert!(!xml.stdout.contains("PRIVATE KEY"));
    delete(env, &name);
}
