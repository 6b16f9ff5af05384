//! Help texts and what is generated from the command line's definition.

use crate::{home, kubby, text};

/// Returns the arguments of each visible command, and the text of its `--help`.
fn help_pages() -> Vec<(String, String)> {
    fn collect(command: &clap::Command, path: Vec<String>, paths: &mut Vec<Vec<String>>) {
        paths.push(path.clone());
        for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            let mut path = path.clone();
            path.push(inner.get_name().to_owned());
            collect(inner, path, paths);
        }
    }
    let mut paths = Vec::new();
    collect(
        &kubby::testing::cli::Cli::definition(),
        Vec::new(),
        &mut paths,
    );
    let home = home();
    let page = |path: Vec<String>| {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push("--help");
        let output = kubby(&home, &args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        let help = text(&output.stdout);
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        (path.join(" "), lines.join("\n"))
    };
    paths.into_iter().map(page).collect()
}

#[test]
fn the_help_of_every_command_fits_80_columns() {
    let pages = help_pages();
    assert!(pages.len() > 50, "{}", pages.len());
    for (command, help) in pages {
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

/// Splits the help of a command into its own text and the global options, which each command has.
fn split_global(help: &str) -> (String, String) {
    let (before, rest) = help
        .split_once("Global options:\n")
        .expect("they are there");
    let inside = |line: &&str| line.is_empty() || line.starts_with(' ');
    let global: Vec<&str> = rest.lines().take_while(inside).collect();
    let after: Vec<&str> = rest.lines().skip(global.len()).collect();
    let own = format!("{before}{}", after.join("\n"));
    let global = global.join("\n");
    (own.trim_end().to_owned(), global.trim_end().to_owned())
}

#[test]
fn the_reference_has_the_help_of_every_command() {
    let mut reference = String::from(
        "# Command reference\n\nThis page is generated from the command line's definition in \
         `src/cli`. After a change there:\n\n    UPDATE_REFERENCE=1 cargo test --test cli reference\n\n\
         All commands have the global options of `kubby` itself; they are listed there only.\n",
    );
    let pages = help_pages();
    let (_, global) = split_global(&pages[0].1);
    for (command, help) in &pages {
        let (own, others) = split_global(help);
        assert!(global.starts_with(&others), "{command}: {others}");
        let help = if command.is_empty() { help } else { &own };
        let title = format!("kubby {command}");
        reference.push_str(&format!("\n## {}\n\n```text\n{help}\n```\n", title.trim()));
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&file, &reference).expect("the reference is written");
    }
    let present = std::fs::read_to_string(&file).expect("docs/reference.md");
    for (line, (present, wanted)) in present.lines().zip(reference.lines()).enumerate() {
        let line = line + 1;
        assert_eq!(
            present, wanted,
            "docs/reference.md:{line} is out of date: UPDATE_REFERENCE=1 cargo test --test cli reference"
        );
    }
    assert_eq!(present.lines().count(), reference.lines().count());
}

#[test]
fn completions_and_manual_pages_have_all_commands() {
    let home = home();
    for shell in ["bash", "zsh", "fish"] {
        let output = kubby(&home, &["completion", shell]);
        assert!(
            text(&output.stdout).contains("kubernetes-version"),
            "{shell}"
        );
    }
    let dir = home.path().join("man");
    let output = kubby(&home, &["man", &dir.display().to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(dir.join("kubby-start.1").exists());
}

#[test]
fn a_reader_that_exits_is_not_an_error() {
    let home = home();
    let kubby = assert_cmd::cargo::cargo_bin("kubby");
    let output = std::process::Command::new("bash")
        .args([
            "-c",
            "set -o pipefail; \"$0\" completion bash | head -1",
            &kubby.display().to_string(),
        ])
        .env("HOME", home.path())
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
}
