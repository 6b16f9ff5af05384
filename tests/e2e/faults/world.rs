//! All that kubby may leave anywhere, to be compared before and after.

use std::collections::BTreeMap;
use std::path::Path;

use crate::env::Env;
use crate::saving::pool;

/// All that there is, by its name; the kubeconfig with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World(BTreeMap<String, String>);

impl World {
    /// Looks at libvirt, the pool's folder, the home, the caches and the kubeconfig's folder.
    #[track_caller]
    pub fn of(env: &Env) -> Self {
        let mut all = BTreeMap::new();
        for (what, args) in [
            ("domain", ["list", "--all", "--name"]),
            ("pool", ["pool-list", "--all", "--name"]),
        ] {
            for name in env.virsh(&args).ok().stdout.split_whitespace() {
                // Other homes of this host are not ours to judge.
                if name.contains(&env.profile) || name == pool(env) {
                    all.insert(format!("{what} {name}"), String::new());
                }
            }
        }
        let pool = Path::new("/var/lib/libvirt/images").join(pool(env));
        for folder in [pool, env.home()] {
            tree(&folder, &mut all);
        }
        // What is complete there stays; what is not has a hidden name.
        for folder in ["node-images", "components"] {
            let hidden = |name: &str| name.starts_with('.');
            list(&env.cache().join(folder), &hidden, &mut all);
        }
        let config = env.kubeconfig();
        list(config.parent().expect("a folder"), &|_| true, &mut all);
        let text = std::fs::read_to_string(&config).unwrap_or_default();
        all.insert("the kubeconfig's text".into(), text);
        World(all)
    }

    /// Returns what is here and was not there, is missing, or differs.
    pub fn difference(&self, before: &World) -> Vec<String> {
        let mut all = Vec::new();
        for (name, content) in &self.0 {
            match before.0.get(name) {
                None => all.push(format!("left: {name}")),
                Some(old) if old != content => all.push(format!("changed: {name}")),
                Some(_) => {}
            }
        }
        let gone = before.0.keys().filter(|name| !self.0.contains_key(*name));
        all.extend(gone.map(|name| format!("gone: {name}")));
        all
    }
}

fn list(folder: &Path, keep: &dyn Fn(&str) -> bool, all: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if keep(&entry.file_name().to_string_lossy()) {
            all.insert(entry.path().display().to_string(), String::new());
        }
    }
}

fn tree(folder: &Path, all: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // Locks are files that stay, and whether a template's last copy was late is not a leftover.
        if path.ends_with("kubby-home/locks") || path.ends_with("doubted") {
            continue;
        }
        all.insert(path.display().to_string(), String::new());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tree(&path, all);
        }
    }
}
