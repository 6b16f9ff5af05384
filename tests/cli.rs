//! The command line: help, bad input, output formats. No test here needs libvirt.

use std::process::Output;

use assert_cmd::Command;

/// Runs kubby in an empty home.
fn kubby(home: &tempfile::TempDir, args: &[&str]) -> Output {
    Command::cargo_bin("kubby")
        .expect("kubby is built")
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("KUBBY_HOME", home.path().join("home"))
        .env("KUBBY_CACHE", home.path().join("cache"))
        .env("COLUMNS", "80")
        .args(args)
        .output()
        .expect("kubby runs")
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

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
    collect(&kubby::cli::Cli::definition(), Vec::new(), &mut paths);
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
fn bad_input_is_refused_before_anything_is_created() {
    let cases: &[(&[&str], &str)] = &[
        (&["start", "-p", "Bad_Name"], "lower-case letters"),
        (&["start", "-p", ""], "profile name"),
        (&["start", "--memory", "lots"], "4GiB"),
        (&["start", "--memory", "0"], "4GiB"),
        (&["start", "--disk=-5"], "4GiB"),
        (&["start", "--cpus", "0"], "1..=512"),
        (&["start", "--kubernetes-version", "latest"], "v1.37.2"),
        (
            &["start", "--kubernetes-version", "v1.30.0"],
            "v1.34 to v1.37",
        ),
        (&["start", "--api-port", "0"], "1..=65535"),
        (&["start", "--api-port", "70000"], "1..=65535"),
        (
            &["start", "--accel", "hax"],
            "possible values: auto, kvm, tcg",
        ),
        (&["start", "--image-sha256", "00"], "--image"),
        (
            &["start", "--image", "x", "--image-sha256", "00"],
            "64 hexadecimal",
        ),
        (&["start", "--kernel-arg", "a b"], "one word"),
        (
            &["start", "--components", "x", "--binary-mirror", "y"],
            "cannot be used with",
        ),
        (&["start", "--registry-mirror", "m.example"], "https://m"),
        (
            &["start", "--registry-mirror", "https://u:p@m.example"],
            "imagePullSecrets",
        ),
        (&["start", "--insecure-registry", "https://r"], "scheme"),
        (&["start", "--dns", "10.1.1.1,fd00::1"], "IPv4 only"),
        (&["start", "--dns", "dns.example"], "10.1.1.1"),
        (
            &["start", "--ca-certificate", "/nonexistent/ca.pem"],
            "cannot be read",
        ),
        (
            &["start", "--ca-certificate", "/etc/passwd"],
            "no certificate",
        ),
        (&["service"], "<SERVICE>"),
        (&["service", "web", "-n", "a/b"], "lower-case"),
        (&["service", "web", "--host-port", "0"], "1..=65535"),
        (&["status", "-o", "yaml"], "possible values: text, json"),
        (&["logs", "nginx"], "kube-apiserver"),
        (
            &["logs", "--bundle", "x", "--console"],
            "cannot be used with",
        ),
        (
            &["logs", "--bundle", "/nowhere/at/all"],
            "there is no folder",
        ),
        (&["logs", "--bundle", "/"], "is a folder"),
        (&["run"], "<COMMAND>"),
        (&["run", "--"], "<COMMAND>"),
        (&["run", "true"], "kubby run [OPTIONS] -- <COMMAND>..."),
        (&["run", "--timeout", "0", "--", "true"], "1..=604800"),
        (&["run", "--memory", "lots", "--", "true"], "4GiB"),
        (
            &["run", "--logs", "/dev/null/x", "--", "true"],
            "/dev/null/x",
        ),
        (
            &["run", "--keep", "--keep-on-failure", "--", "true"],
            "cannot be used with",
        ),
        (
            &["run", "--download-only", "--", "true"],
            "unexpected argument",
        ),
        (&["stop", "--timeout", "0"], "1..=3600"),
        (&["list", "-q", "-v"], "cannot be used with"),
        (&["snapshot", "save", "Bad_Name"], "lower-case letters"),
        (&["snapshot", "restore", "../x"], "lower-case letters"),
        (&["snapshot", "delete", ""], "name"),
        (&["snapshot", "save"], "<SNAPSHOT>"),
        (&["fork", "Bad_Name"], "lower-case letters"),
        (&["fork", "new", "--from", "a b"], "lower-case letters"),
        (&["fork", "kubby"], "its own name"),
        (&["-p", "dev", "fork", "dev"], "its own name"),
        (&["fork"], "<NEW>"),
        (&["certs"], "renew"),
        (&["certs", "renew", "ca.crt"], "invalid value"),
        (&["certs", "renew", "../admin"], "invalid value"),
        (&["certs", "renew", "--all", "admin"], "cannot be used with"),
        (&["template", "delete"], "<KEY>"),
        (&["template", "delete", "0123"], "no template `0123`"),
        (&["frobnicate"], "unrecognized subcommand"),
    ];
    for (args, words) in cases {
        let home = home();
        let output = kubby(&home, args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(
            stderr.contains(words),
            "{args:?}: no `{words}` in: {stderr}"
        );
        assert!(output.stdout.is_empty(), "{args:?}");
        assert_eq!(
            std::fs::read_dir(home.path()).expect("home").count(),
            0,
            "{args:?}"
        );
    }
}

#[test]
fn a_command_that_cannot_be_run_creates_no_cluster() {
    for (program, code) in [
        ("kubby-no-such-program", 127),
        ("/nowhere/at/all", 127),
        ("/etc/passwd", 126),
        ("/etc", 126),
    ] {
        let home = home();
        let output = kubby(&home, &["run", "--", program, "image", "save", "-o", "x"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{program}: {stderr}");
        assert!(stderr.contains(program), "{program}: {stderr}");
        assert_eq!(std::fs::read_dir(home.path()).expect("home").count(), 0);
    }
}

#[test]
fn run_refuses_the_name_of_an_existing_cluster() {
    let home = home();
    let dir = home.path().join("home/profiles/dev");
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join("profile.toml"), "version = 99\n").expect("a file");
    let output = kubby(&home, &["run", "-p", "dev", "--", "true"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(15), "{stderr}");
    assert!(stderr.contains("named `dev` already"), "{stderr}");
    assert!(dir.join("profile.toml").exists());
}

#[test]
fn an_invalid_proxy_is_reported_without_its_password() {
    let home = home();
    let output = Command::cargo_bin("kubby")
        .expect("kubby is built")
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("https_proxy", "http://me:s3cret@proxy:port")
        .arg("start")
        .output()
        .expect("kubby runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("HTTPS_PROXY") && !stderr.contains("s3cret"),
        "{stderr}"
    );
    assert_eq!(std::fs::read_dir(home.path()).expect("home").count(), 0);
}

#[test]
fn a_start_that_fails_leaves_its_trace() {
    // The second is the name that the flag had before.
    for flag in ["--trace", "--profile-start"] {
        let home = home();
        let file = home.path().join("start.json");
        let path = file.to_str().expect("a plain path");
        let nowhere = "test+tcp://127.0.0.1:1/default";
        let args = ["start", "--connect", nowhere, flag, path];
        assert!(!kubby(&home, &args).status.success());
        let trace: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).expect("the trace")).expect("JSON");
        let events = trace["traceEvents"].as_array().expect("events");
        assert!(
            events.iter().any(|e| e["name"] == "kubby start"),
            "{events:?}"
        );
    }
}

#[test]
fn commands_without_a_cluster_name_the_next_command() {
    for command in [
        &["stop"][..],
        &["ssh", "true"],
        &["kubectl", "get"],
        &["port"],
        &["ip"],
        &["logs"],
        &["logs", "--bundle", "/tmp/kubby-no-such-bundle.tar.gz"],
        &["service", "web"],
        &["service", "list"],
        &["service", "remove", "web"],
        &["pause"],
        &["resume"],
        &["suspend"],
        &["snapshot", "save", "good"],
        &["snapshot", "list"],
        &["snapshot", "restore", "good"],
        &["snapshot", "delete", "good"],
        &["fork", "new"],
        &["certs", "list"],
        &["certs", "renew"],
    ] {
        let home = home();
        let output = kubby(&home, command);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(15), "{command:?}: {stderr}");
        assert!(stderr.contains("kubby start"), "{command:?}: {stderr}");
    }
}

#[test]
fn errors_are_json_with_output_json() {
    let home = home();
    let output = kubby(&home, &["port", "-o", "json", "-p", "dev"]);
    assert_eq!(output.status.code(), Some(15));
    let path = home.path().display().to_string();
    insta::assert_snapshot!(text(&output.stdout).replace(&path, "HOME"), @r#"
    {
      "apiVersion": "kubby.dev/v1",
      "kind": "Error",
      "class": "state",
      "exitCode": 15,
      "message": "there is no cluster named `dev`",
      "causes": [],
      "details": [],
      "hints": [
        "kubby start -p dev creates it",
        "kubby list shows the clusters of this home, HOME/home"
      ]
    }
    "#);
}

#[test]
fn a_missing_cluster_is_nonexistent_and_not_an_error() {
    let home = home();
    let output = kubby(&home, &["status"]);
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(text(&output.stdout), @r"
    kubby
    host: Nonexistent
    kubelet: Nonexistent
    apiserver: Nonexistent
    kubeconfig: Nonexistent
    ");
    assert_eq!(
        kubby(&home, &["status", "--exit-code"]).status.code(),
        Some(15)
    );
    let list = kubby(&home, &["list"]);
    assert!(text(&list.stdout).contains("kubby start"));
}

/// Runs `kubby doctor` where libvirt does not answer.
fn doctor(home: &tempfile::TempDir, args: &[&str]) -> Output {
    Command::cargo_bin("kubby")
        .expect("kubby is built")
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("KUBBY_HOME", home.path().join("home"))
        .env("KUBBY_CACHE", home.path().join("cache"))
        .env(
            "LIBVIRT_DEFAULT_URI",
            "qemu+unix:///system?socket=/nonexistent/libvirt-sock",
        )
        .arg("doctor")
        .args(args)
        .output()
        .expect("kubby runs")
}

#[test]
fn the_doctor_works_without_libvirt_and_creates_nothing() {
    let home = home();
    for args in [&[][..], &["--fix"]] {
        let output = doctor(&home, args);
        let stdout = text(&output.stdout);
        assert_eq!(output.status.code(), Some(10), "{stdout}");
        for words in [
            "failure  libvirt",
            "-> start it",
            "skipped  qemu",
            "ok       clock",
        ] {
            assert!(stdout.contains(words), "no `{words}` in:\n{stdout}");
        }
        assert_eq!(std::fs::read_dir(home.path()).expect("home").count(), 0);
    }
}

#[test]
fn the_doctor_reports_damaged_profiles_as_json() {
    let home = home();
    let dir = home.path().join("home/profiles/dev");
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join("profile.toml"), "version =").expect("a file");
    let output = doctor(&home, &["-o", "json", "--fix"]);
    assert_eq!(output.status.code(), Some(10));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["apiVersion"], "kubby.dev/v1");
    assert_eq!(value["kind"], "Doctor");
    assert_eq!(value["healthy"], false);
    let of = |key: &str, name: &str| -> Vec<serde_json::Value> {
        let all = value[key].as_array().expect("a list");
        all.iter().filter(|v| v["name"] == name).cloned().collect()
    };
    let found = of("findings", "clusters");
    assert_eq!(found.len(), 1, "{value:#}");
    assert_eq!(found[0]["state"], "failure");
    assert_eq!(found[0]["fixable"], false);
    let remedy = found[0]["remedy"].as_str().expect("a remedy");
    assert!(remedy.contains("kubby delete -p dev"), "{remedy}");
    // The folder and the file were open to others.
    assert_eq!(of("repairs", "secrets")[0]["done"], true, "{value:#}");
    assert_eq!(of("findings", "secrets")[0]["state"], "ok", "{value:#}");
    let kept = std::fs::read_to_string(dir.join("profile.toml")).expect("it");
    assert_eq!(kept, "version =");
}

#[test]
fn newer_and_damaged_profiles_have_errors_of_their_own() {
    let home = home();
    let dir = home.path().join("home/profiles/kubby");
    std::fs::create_dir_all(&dir).expect("a folder");
    for (content, words) in [("version = 99\n", "newer kubby"), ("version =", "damaged")] {
        std::fs::write(dir.join("profile.toml"), content).expect("a file");
        for command in [&["start"][..], &["stop"], &["ssh", "true"], &["port"]] {
            let output = kubby(&home, command);
            assert_eq!(
                output.status.code(),
                Some(15),
                "{command:?}: {}",
                text(&output.stderr)
            );
            assert!(
                text(&output.stderr).contains(words),
                "{}",
                text(&output.stderr)
            );
        }
        let status = text(&kubby(&home, &["status"]).stdout);
        assert!(
            status.contains("host: Broken") && status.contains(words),
            "{status}"
        );
        assert_eq!(
            std::fs::read_to_string(dir.join("profile.toml")).expect("it"),
            content
        );
    }
}

#[test]
fn a_relative_home_is_refused() {
    let output = Command::cargo_bin("kubby")
        .expect("kubby is built")
        .env("KUBBY_HOME", "some/where")
        .arg("list")
        .output()
        .expect("kubby runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("absolute path"));
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
fn version_prints_text_and_json() {
    let output = kubby(&home(), &["version", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["kubby"], env!("CARGO_PKG_VERSION"));
    assert_eq!(value["defaultKubernetesVersion"], "v1.37.2");
    assert!(text(&kubby(&home(), &["--version"]).stdout).starts_with("kubby "));
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
