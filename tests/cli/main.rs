//! The command line: help, bad input, output formats. No test here needs libvirt.

mod doctor;
mod help;
mod input;

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

#[test]
fn version_prints_text_and_json() {
    let output = kubby(&home(), &["version", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["kubby"], env!("CARGO_PKG_VERSION"));
    assert_eq!(value["defaultKubernetesVersion"], "v1.37.2");
    assert!(text(&kubby(&home(), &["--version"]).stdout).starts_with("kubby "));
}
