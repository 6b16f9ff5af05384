//! The end of a group of tests: its clusters are deleted, and a look for what is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kubby::testing::hypervisor::POOL_MARK;

use crate::env::Env;
use crate::program::Run;
use crate::saving::{pool, template_parts};

/// Deletes all clusters of the group, also those that a failed test has left in some state.
pub fn delete_all(env: &Env) {
    remove_domains(env);
    for other in &others(env) {
        delete_in(other);
    }
    delete_in(env);
}

fn delete_in(env: &Env) {
    if env.home().exists() && env.kubby(&["delete", "--all"]).code != 0 {
        let _ = fs::remove_dir_all(env.home().join("profiles"));
    }
}

/// Deletes the clusters of a group, and says what is left of it all the same. What was unfinished in
/// the cache before is not of the group.
pub fn end_group(env: &Env, unfinished_before: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    let mut deleted = |env: &Env, args: &[&str]| {
        let run = env.kubby(args);
        if run.code != 0 {
            left.push(format!("{args:?} ended with {}: {}", run.code, run.stderr));
        }
    };
    let others = others(env);
    for other in &others {
        if other.home().exists() {
            deleted(other, &["delete", "--all"]);
            deleted(other, &["template", "prune", "--all"]);
        }
    }
    if env.home().exists() {
        deleted(env, &["delete", "--all"]);
        if env.home().starts_with(env.root()) {
            deleted(env, &["template", "prune", "--all"]);
        }
    }
    for other in &others {
        left.extend(homes(other));
    }
    if env.home().starts_with(env.root()) {
        left.extend(homes(env));
    } else {
        left.extend(beside_templates(env));
    }
    left.extend(domains(env).iter().map(|name| format!("domain {name}")));
    left.extend(contexts(env));
    left.extend(endpoints(env));
    let unfinished = unfinished(&env.cache()).into_iter();
    left.extend(unfinished.filter(|path| !unfinished_before.contains(path)));
    remove_domains(env);
    left
}

/// Deletes the templates of the run, and says what is left of its home all the same.
pub fn end_run(env: &Env) -> Vec<String> {
    let mut left = Vec::new();
    if env.home().exists() {
        let run = env.kubby(&["template", "prune", "--all"]);
        if run.code != 0 {
            left.push(run.stderr);
        }
    }
    left.extend(homes(env));
    left.extend(domains(env).iter().map(|name| format!("domain {name}")));
    left
}

/// Returns the further homes below a group's folder.
fn others(env: &Env) -> Vec<Env> {
    let entries = fs::read_dir(env.root()).into_iter().flatten().flatten();
    let homes = entries.filter(|entry| entry.path().join("kubby-home").exists());
    homes
        .map(|entry| env.elsewhere(&entry.file_name().to_string_lossy()))
        .collect()
}

/// Says what is left of a home that has no cluster and no template any more.
fn homes(env: &Env) -> Vec<String> {
    let mut left = Vec::new();
    let pools = env.virsh(&["pool-list", "--all", "--name"]).ok().stdout;
    if pools.lines().any(|name| name.trim() == pool(env)) {
        left.push(format!("pool {}", pool(env)));
    }
    let folder = Path::new("/var/lib/libvirt/images").join(pool(env));
    let there = [folder, env.home()]
        .into_iter()
        .filter(|path| path.exists());
    left.extend(there.map(|path| path.display().to_string()));
    left
}

/// Says what is left in a home and its pool beside templates and what they build on.
fn beside_templates(env: &Env) -> Vec<String> {
    if !env.home().exists() {
        return homes(env);
    }
    let mut left = names(&env.home().join("profiles"));
    let templates = names(&env.home().join("templates"));
    // The groups share one template, and count on it.
    if templates.len() > 1 && std::env::var_os("KUBBY_E2E_KEEP").is_none() {
        left.extend_from_slice(&templates);
    }
    left.extend(
        templates
            .into_iter()
            .filter(|path| !path.join("manifest.json").exists()),
    );
    let parts = template_parts(env);
    let of_template = |name: &str| {
        ["base-", "components-", POOL_MARK]
            .iter()
            .any(|start| name.starts_with(start))
            || parts.iter().any(|part| name.contains(part))
    };
    let folder = match env.home().join("pool") {
        own if own.exists() => own,
        _ => Path::new("/var/lib/libvirt/images").join(pool(env)),
    };
    left.extend(names(&folder).into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !of_template(&name)
    }));
    left.iter().map(|path| path.display().to_string()).collect()
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Returns the domains of the group, which have its folder or home in their owner mark, under
/// whatever name.
fn domains(env: &Env) -> BTreeSet<String> {
    let all = env.virsh(&["list", "--all", "--name"]).ok().stdout;
    let (root, home) = (path_text(env.root()), path_text(&env.home()));
    let is_ours = |name: &&str| {
        name.contains(&env.profile) || {
            let xml = env.virsh(&["dumpxml", name]).stdout;
            xml.contains(&root) || xml.contains(&home)
        }
    };
    let names = all.split_whitespace().filter(is_ours);
    names.map(str::to_owned).collect()
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// Ends and undefines the domains that no command of kubby's has removed, so that later groups have
/// the processors for themselves.
fn remove_domains(env: &Env) {
    for name in domains(env) {
        let _: [Run; 2] = [["destroy", &name], ["undefine", &name]].map(|args| env.virsh(&args));
    }
}

/// Says which programs still lead to control planes. One that was replaced has ten seconds for its connections.
fn endpoints(env: &Env) -> Vec<String> {
    let home = path_text(&env.home());
    let of_home = |entry: fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.contains("haproxy") && line.contains(&home)).then_some(line)
    };
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        let left: Vec<String> = all.filter_map(of_home).collect();
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Says what of kubby's is left in the group's kubeconfig and beside it.
fn contexts(env: &Env) -> Vec<String> {
    let config = env.kubeconfig();
    let text = fs::read_to_string(&config).unwrap_or_default();
    let mut left = Vec::new();
    if text.contains("kubby") {
        left.push(format!("in the kubeconfig: {text}"));
    }
    let beside = names(config.parent().expect("a folder"));
    let beside = beside.iter().filter(|path| **path != config);
    left.extend(beside.map(|path| path_text(path)));
    left
}

/// Returns what a program has begun in a cache and not ended: it has hidden names.
pub fn unfinished(cache: &Path) -> Vec<String> {
    let all = ["node-images", "components"].map(|folder| names(&cache.join(folder)));
    let hidden = all.iter().flatten().filter(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with('.')
    });
    hidden.map(|path| path_text(path)).collect()
}
