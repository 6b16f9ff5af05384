//! `kubby doctor` without libvirt.

use std::process::Output;

use assert_cmd::Command;

use crate::{home, text};

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
