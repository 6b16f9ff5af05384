//! Bad input, which is refused before anything is created.

use assert_cmd::Command;

use crate::{home, kubby, text};

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
