//! Everything that a command could change: files with all that the file system knows of them, domains and
//! pools.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::ownership::actor::Actor;

/// What there is at one moment, by its path or name.
pub struct Seen {
    all: BTreeMap<String, String>,
}

/// Names that are watched beside files.
#[derive(Default, Clone)]
pub struct Watched {
    pub folders: Vec<PathBuf>,
    pub domains: Vec<String>,
    pub pools: Vec<String>,
}

impl Watched {
    /// Returns both together.
    pub fn with(&self, other: &Watched) -> Watched {
        let mut both = self.clone();
        both.folders.extend_from_slice(&other.folders);
        both.domains.extend_from_slice(&other.domains);
        both.pools.extend_from_slice(&other.pools);
        both
    }

    /// Returns whether a file, domain or pool is among these.
    pub fn has(&self, key: &str) -> bool {
        match key.split_once(' ') {
            Some(("domain", name)) => self.domains.iter().any(|own| own == name),
            Some(("pool", name)) => self.pools.iter().any(|own| own == name),
            _ => self
                .folders
                .iter()
                .any(|own| Path::new(key).starts_with(own)),
        }
    }
}

impl Seen {
    pub fn now(actor: &Actor<'_>, watched: &Watched) -> Self {
        let mut all = BTreeMap::new();
        for folder in &watched.folders {
            files(folder, &mut all);
        }
        objects(actor, watched, &mut all);
        Seen { all }
    }

    /// Returns the files, domains and pools among these.
    pub fn of(&self, watched: &Watched) -> impl Iterator<Item = &String> {
        self.all.keys().filter(|key| watched.has(key))
    }

    /// Says what differs, except for what `may_change` accepts.
    pub fn differences(&self, now: &Seen, may_change: impl Fn(&str) -> bool) -> Vec<String> {
        let keys = self.all.keys().chain(now.all.keys());
        let mut found = Vec::new();
        for key in keys.filter(|key| !may_change(key)) {
            let text = match (self.all.get(key), now.all.get(key)) {
                (Some(before), Some(now)) if before == now => continue,
                (Some(_), None) => format!("{key} is gone"),
                (None, _) => format!("{key} is new"),
                (Some(before), Some(now)) => {
                    let (before, now) = apart(before, now);
                    format!("{key} has changed: {before} -> {now}")
                }
            };
            if !found.contains(&text) {
                found.push(text);
            }
        }
        found
    }
}

/// Returns the beginning of what differs in two texts.
fn apart<'t>(before: &'t str, now: &'t str) -> (&'t str, &'t str) {
    let pairs = before.char_indices().zip(now.chars());
    let at = pairs.into_iter().find(|((_, a), b)| a != b);
    let at = at.map_or(before.len().min(now.len()), |((at, _), _)| at);
    let shown = |text: &'t str| text[at..].get(..80).unwrap_or(&text[at..]);
    (shown(before), shown(now))
}

/// Records each file with inode, mode, owner, size and times: no change of a byte keeps them all.
fn files(path: &Path, all: &mut BTreeMap<String, String>) {
    let Ok(meta) = path.symlink_metadata() else {
        return;
    };
    // A folder's times change with its entries, which are recorded themselves.
    let text = match meta.is_dir() {
        true => format!("folder {:o} {} {}", meta.mode(), meta.uid(), meta.ino()),
        false => format!(
            "file {:o} {} {} {} {}.{} {}.{}",
            meta.mode(),
            meta.uid(),
            meta.ino(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec()
        ),
    };
    all.insert(path.display().to_string(), text);
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            files(&entry.path(), all);
        }
    }
}

/// Records the XML of domains and pools, and their state.
fn objects(actor: &Actor<'_>, watched: &Watched, all: &mut BTreeMap<String, String>) {
    let echo = |kind: &str, name: &String, dump: &str| {
        [
            format!("echo '=== {kind} {name}'"),
            format!("{dump} {name}"),
        ]
    };
    let mut commands = vec!["echo '=== lists'".to_owned()];
    commands.extend(["list --all".into(), "pool-list --all".into()]);
    let domains = watched.domains.iter();
    commands.extend(domains.flat_map(|name| echo("domain", name, "dumpxml --security-info")));
    let pools = watched.pools.iter();
    commands.extend(pools.flat_map(|name| echo("pool", name, "pool-dumpxml")));
    // One that does not exist is an error, which ends nothing.
    let output = actor.virsh(&commands).stdout;
    // virsh's `echo` ends with no line break.
    let mut parts = output.split("=== ");
    let lists = parts.find_map(|part| part.strip_prefix("lists"));
    let lists = lists.expect("the lists");
    for part in output.split("=== ").filter(|part| part.contains('<')) {
        let (title, xml) = part.split_once('<').unwrap_or((part, ""));
        let name = title.trim().split(' ').nth(1).unwrap_or_default();
        let is_of = |line: &&str| line.split_whitespace().any(|word| word == name);
        let words = lists.lines().filter(is_of).flat_map(str::split_whitespace);
        let mut text = words.collect::<Vec<_>>().join(" ");
        // They change with every byte on the disk.
        let varies = ["<capacity ", "<allocation ", "<available "];
        let lines = xml.lines().map(str::trim);
        let steady = lines.filter(|line| !varies.iter().any(|start| line.starts_with(start)));
        steady.for_each(|line| text.push_str(line));
        all.insert(title.trim().to_owned(), text);
    }
    // The neighbour's is always there: a look that shows nothing would find no change.
    assert!(all.keys().any(|key| key.starts_with("domain ")), "{output}");
}
