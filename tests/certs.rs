//! `kubby certs list` on certificates that were made at other times. No libvirt is needed for it.

use std::path::Path;

use assert_cmd::Command;
use kubby::testing::pki::{self, PkiSpec};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

/// A home with a profile as an earlier kubby wrote it, and certificates made so many days ago.
fn home(days: i64) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    let dir = home.path().join("profiles/dev");
    let spec = PkiSpec::of_first_node(OffsetDateTime::now_utc() - Duration::days(days));
    pki::ensure(&dir.join("pki"), &spec).expect("certificates");
    let profile = include_str!("../src/profile/golden/v1-with-disk.toml");
    std::fs::write(dir.join("profile.toml"), profile).expect("a profile");
    home
}

fn list(home: &Path, format: &str) -> String {
    let output = Command::cargo_bin("kubby")
        .expect("kubby is built")
        .env_clear()
        .env("KUBBY_HOME", home)
        .env("KUBBY_CACHE", home.join("cache"))
        .args(["-p", "dev", "certs", "list", "-o", format])
        .output()
        .expect("kubby runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    String::from_utf8(output.stdout).expect("text")
}

fn rows(home: &Path) -> Vec<Value> {
    let list: Value = serde_json::from_str(&list(home, "json")).expect("JSON");
    assert_eq!(list["kind"], "CertificateList");
    assert_eq!(list["profile"], "dev");
    list["certificates"].as_array().expect("a list").clone()
}

#[test]
fn each_certificate_is_listed_with_its_renewal() {
    for (age, left, renewal) in [
        (0, 364, Value::Null),
        (340, 24, "it ends soon".into()),
        (400, -35, "it has ended".into()),
        (-2, 366, "it is not valid yet".into()),
    ] {
        let home = home(age);
        let rows = rows(home.path());
        assert_eq!(rows.len(), 18);
        let row = |name: &str| rows.iter().find(|r| r["name"] == name).expect("its row");
        let admin = row("admin");
        assert_eq!(admin["subject"], "O=system:masters, CN=kubernetes-admin");
        assert_eq!(admin["authority"], "operator-ca");
        assert_eq!(admin["daysLeft"], left);
        assert_eq!(admin["renewal"], renewal, "{age}");
        let ca = row("ca");
        assert_eq!(ca["authority"], Value::Null);
        assert!(ca["endsAt"].as_i64() > admin["endsAt"].as_i64());
        assert_eq!(ca["renewal"].is_string(), age < 0);
        let text = list(home.path(), "text");
        let line = text.lines().find(|l| l.starts_with("etcd/peer "));
        let end = match renewal.as_str() {
            Some(why) => format!("renews it: {why}"),
            None => "keeps it".to_owned(),
        };
        assert!(line.is_some_and(|l| l.trim_end().ends_with(&end)), "{text}");
    }
}

#[test]
fn lost_and_damaged_ones_are_rows_too() {
    let home = home(0);
    let pki = home.path().join("profiles/dev/pki");
    std::fs::remove_file(pki.join("admin.crt")).expect("it was there");
    std::fs::write(pki.join("etcd/ca.crt"), "nonsense").expect("a file");
    let rows = rows(home.path());
    let due = rows.iter().filter(|r| r["renewal"].is_string());
    let due: Vec<String> = due
        .map(|r| format!("{}: {}", r["name"], r["renewal"]))
        .collect();
    assert_eq!(
        due,
        [
            r#""etcd/ca": "it is damaged""#,
            r#""apiserver-etcd-client": "its authority is missing or damaged""#,
            r#""etcd/server": "its authority is missing or damaged""#,
            r#""etcd/peer": "its authority is missing or damaged""#,
            r#""admin": "it is missing""#,
        ]
    );
    let admin = rows.iter().find(|r| r["name"] == "admin").expect("its row");
    assert!(admin.get("endsAt").is_none() && admin.get("subject").is_none());
}
