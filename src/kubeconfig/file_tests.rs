use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, Instant};

use super::*;
use crate::kubeconfig::inspect::{State, inspect};
use crate::kubeconfig::lock::lock_one;

fn entry(name: &str) -> Entry {
    Entry {
        name: name.into(),
        server: "https://127.0.0.1:6443".into(),
        ca_pem: "CA".into(),
        client_cert_pem: "CERT".into(),
        client_key_pem: "KEY".into(),
        owner: Owner {
            profile: name.into(),
            home: "/home/u/.kubby".into(),
        },
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_file_is_private_and_goes_with_the_last_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".kube/config");
    assert!(!uninstall(&path, "a", &entry("a").owner).unwrap());
    assert!(!path.parent().unwrap().exists(), "removing makes nothing");
    assert!(install(&path, &entry("a"), true).unwrap());
    assert!(
        !install(&path, &entry("a"), true).unwrap(),
        "the second time changes nothing"
    );
    assert!(install(&path, &entry("b"), false).unwrap());
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert!(uninstall(&path, "a", &entry("a").owner).unwrap());
    assert!(path.exists());
    assert!(uninstall(&path, "b", &entry("b").owner).unwrap());
    assert_eq!(names(path.parent().unwrap()), Vec::<String>::new());
}

#[test]
fn an_existing_file_keeps_its_mode_and_stays() {
    for bits in [0o600, 0o640, 0o400] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let text = "apiVersion: v1\nkind: Config\npreferences: {}\n";
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        install(&path, &entry("a"), true).unwrap();
        assert_eq!(mode(&path), bits);
        uninstall(&path, "a", &entry("a").owner).unwrap();
        assert_eq!(mode(&path), bits);
        assert!(fs::read_to_string(&path).unwrap().starts_with(text));
        assert_eq!(names(dir.path()), ["config"]);
    }
}

#[test]
fn links_are_written_through_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("dotfiles/config"), dir.path().join("link"));
    fs::create_dir(dir.path().join("dotfiles")).unwrap();
    symlink("dotfiles/second", &link).unwrap();
    symlink("config", dir.path().join("dotfiles/second")).unwrap();
    install(&link, &entry("a"), true).unwrap();
    assert!(link.is_symlink() && !real.is_symlink());
    let text = fs::read_to_string(&real).unwrap();
    assert_eq!(
        inspect(Some(&text), &entry("a")).unwrap().state,
        State::Configured
    );
    uninstall(&link, "a", &entry("a").owner).unwrap();
    assert!(
        link.is_symlink() && real.exists(),
        "a link's target is not deleted"
    );
    assert_eq!(names(dir.path()), ["dotfiles", "link"]);
    let circle = dir.path().join("circle");
    symlink("circle", &circle).unwrap();
    assert!(
        install(&circle, &entry("a"), true)
            .unwrap_err()
            .message()
            .contains("circle")
    );
}

#[test]
fn a_refused_file_is_untouched_and_the_error_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    for (bytes, why) in [
        (&b"kind: Config\nclusters: [\n"[..], "line 2"),
        (b"a: 1\na: 2\n", "line 2"),
        (b"kind: Config\nx: \xff\n", "line 2, byte 4"),
        (b"clusters: [{name: a}]", "cluster `a`"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = install(&path, &entry("a"), true).unwrap_err();
        let text = format!("{error} {:?}", error.causes());
        assert_eq!(error.kind(), Kind::Kubeconfig);
        assert!(
            text.contains(why) && text.contains(&*path.to_string_lossy()),
            "{text}"
        );
        assert!(!error.hints().is_empty());
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(names(dir.path()), ["config"]);
    }
}

#[test]
fn a_lock_is_waited_for_and_a_stale_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    let name = dir.path().join("config.lock");
    fs::write(&name, "").unwrap();
    let error = lock_one(name.clone(), Instant::now() + Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), Kind::Kubeconfig);
    assert!(
        error.hints()[0].contains(&*name.to_string_lossy()),
        "{:?}",
        error.hints()
    );
    let held = name.clone();
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        fs::remove_file(held).unwrap();
    });
    let begin = Instant::now();
    install(&path, &entry("a"), true).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(150), "it waited");
    holder.join().unwrap();
    assert!(!name.exists());
}

#[test]
fn a_link_and_its_target_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("z"), dir.path().join("a"));
    symlink("z", &link).unwrap();
    let held = lock(&link, &resolve(&link).unwrap()).unwrap();
    assert_eq!(names(dir.path()), ["a", "a.lock", "z.lock"]);
    let soon = Instant::now();
    assert!(lock_one(dir.path().join("z.lock"), soon).is_err());
    drop(held);
    assert_eq!(lock(&real, &real).unwrap().len(), 1);
    assert_eq!(names(dir.path()), ["a"]);
}
