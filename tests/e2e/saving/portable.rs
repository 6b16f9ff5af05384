//! A template that travels in one file to a place that has nothing yet: another home, another
//! cache.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;

use serde_json::Value;

use super::{delete, healthy, host, named, pool, start, template, template_parts};
use crate::env::Env;
use crate::group::Test;
use crate::program::Run;

pub const TESTS: &[Test] = tests![
    a_template_is_exported,
    bad_files_leave_nothing,
    a_template_is_imported_and_used,
];

/// The user's own entries, which outlive every cluster.
const FOREIGN: &str = "apiVersion: v1
kind: Config
# the one at work
clusters:
- name: work
  cluster: {server: https://work.example:6443}
contexts:
- name: work
  context: {cluster: work, user: me}
users:
- name: me
  user: {token: abc}
current-context: work
";

fn file(env: &Env) -> PathBuf {
    env.root().join("template.zst")
}

/// Lets the group's cluster stand still while others need the processors.
pub fn rest(env: &Env) {
    env.kubby(&["pause"]).ok();
    assert_eq!(host(env, &env.profile), "Paused");
}

/// Returns the other host's home.
pub fn elsewhere(env: &Env) -> Env {
    let other = env.elsewhere("other-host");
    let config = other.kubeconfig();
    if !config.exists() {
        std::fs::create_dir_all(config.parent().expect("a parent")).expect("a folder");
        std::fs::write(config, FOREIGN).expect("a kubeconfig");
    }
    other
}

/// Exports the template, unless that was done.
fn exported(env: &Env) -> PathBuf {
    let file = file(env);
    if !file.exists() {
        let path = file.to_str().expect("a path");
        env.kubby(&["template", "export", "--file", path]).ok();
    }
    file
}

/// Returns the other host's home with the template in it.
pub fn imported(env: &Env) -> Env {
    let other = elsewhere(env);
    if template_parts(&other).is_empty() {
        let file = exported(env);
        import(&other, &[file.to_str().expect("a path")]).ok();
    }
    other
}

fn import(env: &Env, args: &[&str]) -> Run {
    env.kubby(&[&["template", "import"], args].concat())
}

fn sha256(file: &std::path::Path) -> String {
    let mut sum = std::process::Command::new("sha256sum");
    sum.arg(file);
    Run::of(sum).ok().stdout[..64].to_owned()
}

fn a_template_is_exported(env: &Env) {
    rest(env);
    let file = file(env);
    let path = file.to_str().expect("a path");
    let run = env
        .kubby(&["template", "export", "--file", path, "-o", "json"])
        .ok();
    let result = run.json();
    assert_eq!(result["key"], template(env)["key"]);
    let meta = std::fs::metadata(&file).expect("the file");
    // Keys are in it.
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert_eq!(result["bytes"].as_u64(), Some(meta.len()));
    assert_eq!(result["sha256"], sha256(&file));
    note!(
        "export: {:.1} s, {} MiB",
        run.took.as_secs_f64(),
        meta.len() >> 20
    );
    env.kubby(&["template", "export", "ffff", "--file", path])
        .exits(2)
        .says("there is no template `ffff`");
    env.kubby(&["template", "export", "--file", "/nowhere/at/all"])
        .exits(2)
        .says("there is no folder");
}

/// Checks that nothing is there after a failed import.
#[track_caller]
fn nothing_is_there(other: &Env) {
    assert!(!other.home().exists());
    let pools = other.virsh(&["pool-list", "--all", "--name"]).ok().stdout;
    assert!(!pools.contains(&pool(other)), "{pools}");
    let staged = |folder: &str| {
        let entries = std::fs::read_dir(other.root().join("cache").join(folder));
        let names = entries.into_iter().flatten().flatten();
        let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.find(|name| name.starts_with(".staging"))
    };
    assert_eq!(staged("node-images"), None);
    assert_eq!(staged("components"), None);
}

fn bad_files_leave_nothing(env: &Env) {
    rest(env);
    let other = elsewhere(env);
    let bad = env.root().join("bad.zst");
    let path = bad.to_str().expect("a path");
    std::fs::write(&bad, "no template").expect("a file");
    import(&other, &[path]).exits(2).says("is not a template");
    import(&other, &["/nowhere/at/all"])
        .exits(2)
        .says("cannot open");

    let whole = exported(env);
    let length = std::fs::copy(&whole, &bad).expect("a copy");
    let open = || std::fs::File::options().write(true).open(&bad);
    // Cut at its very end, and in its middle.
    for cut in [length - 3, length / 2] {
        open().and_then(|file| file.set_len(cut)).expect("a cut");
        import(&other, &[path]).exits(11);
        nothing_is_there(&other);
    }
    std::fs::copy(&whole, &bad).expect("a copy");
    let changed = open().and_then(|file| file.write_all_at(&[0x55; 64], length / 3 * 2));
    changed.expect("a change");
    import(&other, &[path]).exits(11);
    nothing_is_there(&other);
    let wrong = "0".repeat(64);
    let whole = whole.to_str().expect("a path");
    import(&other, &[whole, "--sha256", &wrong])
        .exits(11)
        .says("the SHA-256 of");
    nothing_is_there(&other);
    std::fs::remove_file(&bad).expect("removed");
}

fn a_template_is_imported_and_used(env: &Env) {
    rest(env);
    let other = elsewhere(env);
    let file = exported(env);
    let path = file.to_str().expect("a path");
    let run = import(&other, &[path, "--sha256", &sha256(&file)]).ok();
    note!("import: {:.1} s", run.took.as_secs_f64());
    assert_eq!(template(&other)["key"], template(env)["key"]);
    assert_eq!(template(&other)["problem"], Value::Null);
    import(&other, &[path]).ok().says("is here already");
    // Nothing was built or downloaded for this.
    let name = named(&other, "travelled");
    let (run, result) = start(&other, &name);
    note!("start from it: {:.1} s", run.took.as_secs_f64());
    assert_eq!(result["fromTemplate"], true, "{}", run.stderr);
    healthy(&other, &name);
    delete(&other, &name);
}
