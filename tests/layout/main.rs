//! The structure of `src`: imports lead one way, no circles of files, short files and functions. The rules
//! are in docs/architecture.md.

mod circles;
mod sources;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use sources::Sources;

/// The longest file, tests included.
const FILE_LINES: usize = 400;
/// The longest function.
const FUNCTION_LINES: usize = 60;

/// The most lines of product code: without tests, comments and blank lines. A new part raises it on purpose.
const PRODUCT_LINES: usize = 36_500;

/// The parts of `src/cluster`, each with those that its files can import beside their own.
const CLUSTER: [(&str, &[&str]); 4] = [
    ("machine", &[]),
    ("saved", &["machine"]),
    ("start", &["machine", "saved"]),
    ("operations", &["machine", "saved", "start"]),
];

/// Returns the part of `src/cluster` that a file is in.
fn part(file: &str) -> Option<&str> {
    let (part, _) = file.strip_prefix("cluster/")?.split_once('/')?;
    Some(part)
}

fn folder(file: &str) -> &str {
    file.split_once('/').map_or("", |(folder, _)| folder)
}

#[test]
fn imports_in_the_cluster_lead_one_way() {
    let sources = Sources::read();
    let mut wrong = Vec::new();
    for (file, imports) in &sources.imports {
        for import in imports {
            let (from, to) = (part(file), part(import));
            let allowed = match (from, to) {
                (Some(from), Some(to)) if from != to => CLUSTER
                    .iter()
                    .any(|(part, others)| *part == from && others.contains(&to)),
                // The files beside the parts are leaves.
                (None, Some(_)) if file.starts_with("cluster/") => to == Some("machine"),
                _ => true,
            };
            if !allowed {
                wrong.push(format!("{file} imports {import}"));
            }
            let lower = [
                "hypervisor",
                "remote",
                "provision",
                "image",
                "addon",
                "service",
            ];
            if lower.contains(&folder(file)) && import != "cluster/node.rs" {
                let up = import.starts_with("cluster/") || import.starts_with("commands/");
                if up {
                    wrong.push(format!("{file} imports {import}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_commands_and_the_command_line_import_these() {
    let sources = Sources::read();
    for (file, imports) in &sources.imports {
        for import in imports {
            let top = ["commands", "cli"];
            if top.contains(&folder(import)) || import == "cli.rs" {
                assert!(
                    top.contains(&folder(file)) || ["cli.rs", "main.rs"].contains(&file.as_str()),
                    "{file} imports {import}"
                );
            }
        }
    }
}

#[test]
fn no_file_is_in_a_circle() {
    let sources = Sources::read();
    let circles = circles::find(&sources.imports);
    let mut shown = Vec::new();
    for circle in &circles {
        shown.push(format!("a circle of {} files:", circle.len()));
        for file in circle {
            let within = sources.imports[file].iter().filter(|f| circle.contains(f));
            let within: Vec<&str> = within.map(String::as_str).collect();
            shown.push(format!("  {file} imports {}", within.join(", ")));
        }
    }
    assert!(circles.is_empty(), "{}", shown.join("\n"));
}

#[test]
fn files_and_functions_are_short() {
    let sources = Sources::read();
    let mut long: BTreeMap<String, usize> = BTreeMap::new();
    for (file, text) in &sources.texts {
        let lines = text.lines().count();
        if lines > FILE_LINES {
            long.insert(file.clone(), lines);
        }
        if sources::is_test(file) {
            continue;
        }
        for (function, lines) in sources::functions(&sources::without_tests(text)) {
            if lines > FUNCTION_LINES {
                long.insert(format!("{file}: {function}"), lines);
            }
        }
    }
    let shown: Vec<String> = long
        .iter()
        .map(|(what, n)| format!("{what}: {n} lines"))
        .collect();
    assert!(long.is_empty(), "{}", shown.join("\n"));
}

/// Prints the count that docs/architecture.md gives: `cargo test --test layout product -- --nocapture`.
#[test]
fn the_product_is_not_longer_than_was_decided() {
    let sources = Sources::read();
    let product = sources.texts.iter().filter(|(file, _)| {
        let for_tests = file.starts_with("simulation/") || *file == "process/simulated.rs";
        !sources::is_test(file) && !for_tests
    });
    let lines = product.map(|(_, text)| sources::without_tests(text));
    let lines: usize = lines
        .map(|text| text.lines().filter(|line| !line.trim().is_empty()).count())
        .sum();
    let _ = writeln!(std::io::stderr(), "product code: {lines} lines");
    assert!(lines > PRODUCT_LINES / 2, "only {lines} lines were found");
    assert!(
        lines <= PRODUCT_LINES,
        "{lines} lines; see docs/architecture.md"
    );
}

/// The conformance tests are those of the Kubernetes that kubby runs by default.
#[test]
fn conformance_tests_are_of_the_default_release() {
    let required = |module: &str| -> Vec<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(module);
        let text = std::fs::read_to_string(path).expect("a go.mod");
        let lines = text.lines().map(str::trim);
        let of_kubernetes = |line: &&str| {
            line.starts_with("k8s.io/kubernetes v") || line.contains(" => k8s.io/client-go v")
        };
        lines.filter(of_kubernetes).map(str::to_owned).collect()
    };
    let ours = required("images/components/kube/go.mod");
    assert_eq!(ours.len(), 2, "{ours:?}");
    let of_tests = required("tests/conformance/go.mod");
    assert_eq!(
        ours, of_tests,
        "cd tests/conformance && go mod edit, and tidy"
    );
}

#[test]
fn the_rules_find_what_they_look_for() {
    let mut imports = BTreeMap::new();
    imports.insert("a.rs".to_owned(), ["b.rs".to_owned()].into());
    imports.insert("b.rs".to_owned(), ["c.rs".to_owned()].into());
    imports.insert("c.rs".to_owned(), ["a.rs".to_owned()].into());
    imports.insert("d.rs".to_owned(), ["a.rs".to_owned()].into());
    assert_eq!(circles::find(&imports), [["a.rs", "b.rs", "c.rs"]]);
    let text = "fn a() {\n    x\n}\n\nimpl T {\n    pub(crate) const fn b(\n    ) {\n        y\n    }\n}\n";
    let found = sources::functions(text);
    assert_eq!(found, [("a".to_owned(), 3), ("b".to_owned(), 4)]);
    // A line of a text in a test may end like an item.
    let text = "a;\n#[cfg(test)]\nuse b;\n#[cfg(test)]\nmod t {\n    c(\"\n1;\n\");\n}\n// e\nf;\n";
    assert_eq!(sources::without_tests(text), "a;\n\nf;\n");
    let paths =
        sources::paths("use crate::{a, b::{c, d as e}};\nfn x() { crate::f::g(); super::h::i() }");
    let words = [
        "crate::a",
        "crate::b::c",
        "crate::b::d",
        "crate::f::g",
        "super::h::i",
    ];
    for word in words {
        assert!(paths.iter().any(|p| p == word), "{word} in {paths:?}");
    }
}
