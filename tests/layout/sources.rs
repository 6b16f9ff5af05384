//! The files of `src`, without their tests, and the files that each imports. A name that a `mod.rs` passes
//! on with `pub use` counts as an import of the file that it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use crate::circles::Graph;

/// The sources of the library.
pub struct Sources {
    /// The text of each file, with its tests.
    pub texts: BTreeMap<String, String>,
    /// The files that each file imports, tests excluded.
    pub imports: Graph,
}

impl Sources {
    /// Reads all files below `src`.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut texts = BTreeMap::new();
        read_folder(&root, &root, &mut texts);
        assert!(texts.len() > 100, "only {} files", texts.len());
        let tree = Tree::of(&texts);
        let imports = texts
            .iter()
            .filter(|(file, _)| !is_test(file))
            .map(|(file, text)| (file.clone(), tree.imports(file, &without_tests(text))))
            .collect();
        Sources { texts, imports }
    }
}

/// Returns whether a file has only tests, or what they use.
pub fn is_test(file: &str) -> bool {
    file.split('/')
        .any(|part| ["tests", "testing", "tests.rs"].contains(&part))
        || file.ends_with("_tests.rs")
        || file.ends_with("generate.rs")
}

fn read_folder(root: &Path, folder: &Path, texts: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path: PathBuf = entry.expect("an entry").path();
        if path.is_dir() {
            read_folder(root, &path, texts);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).expect("below it");
            let text = std::fs::read_to_string(&path).expect("a text");
            texts.insert(name.to_string_lossy().into_owned(), text);
        }
    }
}

/// Returns the text without comments and without the items under `#[cfg(test)]`. rustfmt writes such an item
/// in one line, or ends it with a bracket in the same column, where a text in it begins with none.
pub fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            let indent = line.len() - line.trim_start().len();
            let mut first = true;
            for line in lines.by_ref() {
                let column = line.len() - line.trim_start().len();
                let ends = first && (line.ends_with('}') || line.ends_with(';'));
                first &= line.trim_start().starts_with("#[");
                if column == indent && (ends || line[column..].starts_with(['}', ']', ')'])) {
                    break;
                }
            }
        } else {
            // An empty line in the place of a comment, so that lines can be counted.
            let comment = line.trim_start().starts_with("//");
            kept.push_str(if comment { "" } else { line });
            kept.push('\n');
        }
    }
    kept
}

/// The files by their modules, and the names that modules pass on.
struct Tree {
    files: BTreeMap<String, String>,
    aliases: BTreeMap<String, String>,
}

impl Tree {
    fn of(texts: &BTreeMap<String, String>) -> Self {
        let files = texts.keys().map(|file| (module_of(file), file.clone()));
        let mut tree = Tree {
            files: files.collect(),
            aliases: BTreeMap::new(),
        };
        for (file, text) in texts {
            let module = module_of(file);
            for (path, name) in passed_on(&without_tests(text)) {
                let target = tree.absolute(&module, &path);
                tree.aliases.insert(format!("{module}::{name}"), target);
            }
        }
        tree
    }

    /// Returns a path as one that begins with `crate`.
    fn absolute(&self, module: &str, path: &str) -> String {
        let mut base: Vec<&str> = module.split("::").collect();
        let mut words = path.split("::").peekable();
        match words.peek() {
            Some(&"crate") => return path.to_owned(),
            Some(&"self") => {
                words.next();
            }
            _ => {}
        }
        while words.peek() == Some(&"super") {
            words.next();
            base.pop();
        }
        base.into_iter().chain(words).collect::<Vec<_>>().join("::")
    }

    /// Returns the file that has what a path names; `None` for a path into another crate.
    fn file_of(&self, path: &str) -> Option<&String> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let words: Vec<&str> = path.split("::").collect();
            let alias = (1..=words.len()).rev().find_map(|n| {
                let target = self.aliases.get(&words[..n].join("::"))?;
                Some([&[target.as_str()], &words[n..]].concat().join("::"))
            });
            match alias {
                Some(next) if next != path => path = next,
                _ => break,
            }
        }
        let words: Vec<&str> = path.split("::").collect();
        let modules = (2..=words.len()).rev().map(|n| words[..n].join("::"));
        modules.filter_map(|module| self.files.get(&module)).next()
    }

    fn imports(&self, file: &str, text: &str) -> BTreeSet<String> {
        let module = module_of(file);
        let passed: BTreeSet<String> = passed_on(text).into_iter().map(|(path, _)| path).collect();
        let paths = paths(text)
            .into_iter()
            .filter(|path| !passed.contains(path));
        let local = local_paths(text)
            .into_iter()
            .filter(|path| !passed.contains(path));
        paths
            .chain(local)
            .filter_map(|path| self.file_of(&self.absolute(&module, &path)).cloned())
            .filter(|import| import != file)
            .collect()
    }
}

fn module_of(file: &str) -> String {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if ["lib", "main"].contains(&path) {
        return "crate".to_owned();
    }
    format!("crate::{}", path.replace('/', "::"))
}

/// Returns all paths in a text that begin with `crate` or `super`, with grouped imports taken apart.
pub fn paths(text: &str) -> Vec<String> {
    static PATH: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b((?:crate|super)(?:::[A-Za-z_][A-Za-z0-9_]*)*)(::\{)?").expect("a pattern")
    });
    static VISIBILITY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"pub\((?:in )?[a-z:_]+\)").expect("a pattern"));
    let text = &VISIBILITY.replace_all(text, "pub");
    let mut all = Vec::new();
    for found in PATH.captures_iter(text) {
        let path = &found[1];
        match found.get(2) {
            Some(group) => take_apart(path, &text[group.end()..], &mut all),
            None => all.push(path.to_owned()),
        }
    }
    all
}

/// Returns the imports of a module's own children: `use child::Name;`.
fn local_paths(text: &str) -> Vec<String> {
    static USE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?m)^use ([a-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*)(::\{)?")
            .expect("a pattern")
    });
    let mut all = Vec::new();
    for found in USE.captures_iter(text) {
        let path = format!("self::{}", &found[1]);
        match found.get(2) {
            _ if found[1].starts_with("crate") || found[1].starts_with("super") => {}
            Some(group) => take_apart(&path, &text[group.end()..], &mut all),
            None => all.push(path),
        }
    }
    all
}

/// Takes a group apart, whose text begins after its brace.
fn take_apart(prefix: &str, text: &str, all: &mut Vec<String>) {
    let mut depth = 0;
    let mut item = String::new();
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                push_item(prefix, item.trim(), all);
                item.clear();
                if c == '}' {
                    return;
                }
                continue;
            }
            _ => {}
        }
        item.push(c);
    }
}

fn push_item(prefix: &str, item: &str, all: &mut Vec<String>) {
    if let Some((head, rest)) = item.split_once("::{") {
        return take_apart(&format!("{prefix}::{head}"), rest, all);
    }
    let name = item.split(" as ").next().unwrap_or(item).trim();
    match name {
        "" => {}
        "self" => all.push(prefix.to_owned()),
        name => all.push(format!("{prefix}::{name}")),
    }
}

/// Returns the paths of `pub use` items with the names under which they are passed on.
fn passed_on(text: &str) -> Vec<(String, String)> {
    static PUB_USE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?ms)^pub(?:\([a-z]+\))? use ([^;]+);").expect("a pattern"));
    let mut all = Vec::new();
    for found in PUB_USE.captures_iter(text) {
        let tree = found[1].split_whitespace().collect::<Vec<_>>().join(" ");
        let (prefix, group) = match tree.split_once("::{") {
            Some((prefix, rest)) => (prefix, rest.trim_end_matches('}').to_owned()),
            None => tree
                .rsplit_once("::")
                .map(|(p, n)| (p, n.to_owned()))
                .unwrap_or(("self", tree.clone())),
        };
        for item in group
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (name, alias) = item.split_once(" as ").unwrap_or((item, item));
            let last = alias.rsplit("::").next().unwrap_or(alias);
            let prefix = match prefix.starts_with("crate") || prefix.starts_with("super") {
                true => prefix.to_owned(),
                false => format!("self::{prefix}"),
            };
            all.push((format!("{prefix}::{name}"), last.to_owned()));
        }
    }
    all
}

/// Returns the functions of a text with the number of their lines; rustfmt puts the closing brace into the
/// column of the first line.
pub fn functions(text: &str) -> Vec<(String, usize)> {
    static FN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(\s*)(?:pub(?:\([a-z: ]+\))? )?(?:const )?(?:unsafe )?(?:async )?fn ([a-z_0-9]+)",
        )
        .expect("a pattern")
    });
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(found) = FN.captures(line) else {
            continue;
        };
        let close = format!("{}}}", &found[1]);
        let semicolon = |line: &&str| line.trim_end().ends_with(';') && !line.contains('{');
        if semicolon(line) || line.trim_end().ends_with('}') {
            continue;
        }
        if let Some(n) = lines[start..].iter().position(|line| *line == close) {
            all.push((found[2].to_owned(), n + 1));
        }
    }
    all
}
