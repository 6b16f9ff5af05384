//! Files: written atomically, compared in one command.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use kubby::testing::error::Kind;
use kubby::testing::remote::{NodeFile, Remote};

use crate::commands::noise;
use crate::server::connected;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// All names below a directory, staging directories included.
fn names(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.display().to_string());
        if path.is_dir() && !path.is_symlink() {
            found.extend(names(&path));
        }
    }
    found
}

#[test]
fn files_arrive_with_modes_parents_and_nothing_else() {
    let (_site, _running, mut ssh) = connected();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let long = "long".repeat(50);
    let files = [
        NodeFile::new(format!("{root}/a/plain"), 0o644, "plain"),
        NodeFile::new(format!("{root}/a/b/c/secret"), 0o600, noise(1 << 20)),
        NodeFile::new(format!("{root}/a/it's a 'name'"), 0o755, "quoted"),
        NodeFile::new(format!("{root}/.hidden"), 0o640, "hidden"),
        NodeFile::new(format!("{root}/{long}"), 0o444, ""),
        NodeFile::new(format!("{root}/private/"), 0o700, ""),
        NodeFile::new(format!("{root}/private/-rf"), 0o4755, "x"),
    ];
    ssh.push(&files).unwrap();
    for file in files.iter().filter(|f| !f.path.ends_with('/')) {
        assert!(fs::read(&file.path).unwrap() == file.content, "{file:?}");
        assert_eq!(mode(Path::new(&file.path)), file.mode, "{file:?}");
    }
    for (path, expected) in [
        ("a", 0o755),
        ("a/b", 0o755),
        ("a/b/c", 0o755),
        ("private", 0o700),
    ] {
        assert_eq!(mode(&dir.path().join(path)), expected, "{path}");
    }
    // Seven from the list and three parents.
    assert_eq!(names(dir.path()).len(), 10, "{:?}", names(dir.path()));
}

#[test]
fn files_are_replaced_and_links_are_not_followed() {
    let (_site, _running, mut ssh) = connected();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("old"), "old").unwrap();
    fs::write(path("elsewhere"), "stays").unwrap();
    symlink(path("elsewhere"), path("link")).unwrap();
    ssh.push(&[
        NodeFile::new(path("old"), 0o600, "new"),
        NodeFile::new(path("link"), 0o600, "own"),
    ])
    .unwrap();
    assert_eq!(fs::read_to_string(path("old")).unwrap(), "new");
    assert_eq!(fs::read_to_string(path("elsewhere")).unwrap(), "stays");
    assert!(!Path::new(&path("link")).is_symlink());
    assert_eq!(mode(Path::new(&path("old"))), 0o600);
}

#[test]
fn hundreds_of_files_go_in_one_push() {
    let (_site, _running, mut ssh) = connected();
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<NodeFile> = (0..600)
        .map(|n| {
            let path = format!(
                "{}/{}/{}-{n}",
                dir.path().display(),
                n % 7,
                "name".repeat(20)
            );
            NodeFile::new(path, 0o644, n.to_string())
        })
        .collect();
    ssh.push(&files).unwrap();
    assert_eq!(ssh.changed(&files, &[]).unwrap(), Vec::<usize>::new());
    assert_eq!(names(dir.path()).len(), 607);
}

#[test]
fn a_reader_never_sees_half_a_file() {
    let (_site, _running, mut ssh) = connected();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    let versions = [vec![b'a'; 300_000], vec![b'b'; 500_000]];
    fs::write(&path, &versions[0]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) {
                let content = fs::read(&path).unwrap();
                assert!(versions.contains(&content), "{} bytes", content.len());
                reads += 1;
            }
            reads
        });
        for version in versions.iter().cycle().take(20) {
            let file = NodeFile::new(path.to_str().unwrap(), 0o644, version.clone());
            let pushed = ssh.push(&[file]);
            if pushed.is_err() {
                done.store(true, Ordering::Relaxed);
            }
            pushed.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 20);
    });
}

#[test]
fn what_cannot_be_written_is_an_error_and_leaves_nothing_behind() {
    let (_site, _running, mut ssh) = connected();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    fs::create_dir(dir.path().join("taken")).unwrap();
    let path = |name: &str| format!("{}/{name}", dir.path().display());
    let e = ssh
        .push(&[NodeFile::new(path("file/child"), 0o600, "secret")])
        .unwrap_err();
    assert_eq!(e.kind(), Kind::Unhealthy);
    assert!(e.message().contains("file/child"), "{e}");
    assert!(e.details()[0].1.contains("Not a directory"), "{e:?}");
    assert!(!format!("{e:?}").contains("secret"));
    let e = ssh
        .push(&[NodeFile::new(path("taken"), 0o600, "secret")])
        .unwrap_err();
    assert!(e.details()[0].1.contains("taken"), "{e:?}");
    assert_eq!(names(dir.path()).len(), 2, "{:?}", names(dir.path()));
    assert_eq!(
        ssh.push(&[NodeFile::new("etc/x", 0o600, "")])
            .unwrap_err()
            .kind(),
        Kind::Internal
    );
}

#[test]
fn only_what_differs_counts_as_changed() {
    let (_site, _running, mut ssh) = connected();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("{}/{name}", dir.path().display());
    let files = [
        NodeFile::new(path("a b"), 0o644, "one"),
        NodeFile::new(path("empty"), 0o600, ""),
        NodeFile::new(path("d/"), 0o750, ""),
        NodeFile::new(path("d/x"), 0o640, "three"),
        NodeFile::new(path("link"), 0o644, "four"),
    ];
    assert_eq!(ssh.changed(&files, &[]).unwrap(), [0, 1, 2, 3, 4]);
    ssh.push(&files).unwrap();
    assert_eq!(ssh.changed(&files, &[]).unwrap(), Vec::<usize>::new());
    assert_eq!(ssh.changed(&[], &[]).unwrap(), Vec::<usize>::new());

    fs::write(path("a b"), "two").unwrap();
    assert_eq!(ssh.changed(&files, &[]).unwrap(), [0]);
    fs::set_permissions(path("empty"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(ssh.changed(&files, &[]).unwrap(), [0, 1]);
    fs::set_permissions(path("d"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_file(path("d/x")).unwrap();
    assert_eq!(ssh.changed(&files, &[]).unwrap(), [0, 1, 2, 3]);
    fs::rename(path("link"), path("moved")).unwrap();
    symlink(path("moved"), path("link")).unwrap();
    assert_eq!(ssh.changed(&files, &[]).unwrap(), [0, 1, 2, 3, 4]);

    ssh.push(&files).unwrap();
    assert_eq!(ssh.changed(&files, &[]).unwrap(), Vec::<usize>::new());
}
