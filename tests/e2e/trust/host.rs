//! Other users of this host: what they can open, and what listens.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::env::Env;
use crate::faults::disrupted::qemu;
use crate::group::{ROOT, Test};
use crate::program::Run;
use crate::saving::pool_folder;
use crate::user::User;

pub const TESTS: &[Test] = tests![
    nothing_listens_beyond_the_loopback,
    modes_keep_others_out,
    other_users_open_nothing_of_kubbys.needs(ROOT),
];

/// Returns the numbers of a process's sockets.
fn sockets(process: Pid) -> BTreeSet<String> {
    let open = fs::read_dir(format!("/proc/{}/fd", process.as_raw_pid())).expect("its files");
    let of = |path: PathBuf| {
        let target = fs::read_link(path).ok()?.to_str()?.to_owned();
        Some(
            target
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .to_owned(),
        )
    };
    open.flatten().filter_map(|e| of(e.path())).collect()
}

/// Returns the columns of the lines of a file in `/proc/net` whose last columns hold one of the sockets.
fn lines(file: &str, column: usize, sockets: &BTreeSet<String>) -> Vec<Vec<String>> {
    let text = fs::read_to_string(Path::new("/proc/net").join(file)).unwrap_or_default();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let all = text.lines().map(words);
    all.filter(|l: &Vec<String>| l.get(column).is_some_and(|s| sockets.contains(s)))
        .collect()
}

fn nothing_listens_beyond_the_loopback(env: &Env) {
    let sockets = sockets(qemu(&env.domain()));
    let listening: BTreeSet<String> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|file| lines(file, 9, &sockets))
        .filter(|line| line[3] == "0A")
        .map(|line| line[1].clone())
        .collect();
    let ports = env.kubby(&["port", "-o", "json"]).ok().json();
    let expected = ["ssh", "api"].map(|name| {
        let port = ports[name].as_u64().expect("a port");
        format!("0100007F:{port:04X}")
    });
    for port in &expected {
        assert!(listening.contains(port), "{port} is not in {listening:?}");
    }
    for address in &listening {
        assert!(
            address.starts_with("0100007F:"),
            "QEMU listens at {address}"
        );
    }

    // Its monitor is a socket in the file system, where others cannot come to.
    let monitors: Vec<PathBuf> = lines("unix", 6, &sockets)
        .into_iter()
        .filter_map(|line| line.get(7).map(PathBuf::from))
        .collect();
    assert!(!monitors.is_empty(), "QEMU has no monitor");
    for path in monitors {
        assert!(!is_open(&path), "{} is open to others", path.display());
    }
}

/// Returns whether other users can use what is at a path, by the modes of it and of all folders above.
fn is_open(path: &Path) -> bool {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.mode());
    mode(path) & 0o006 != 0 && path.ancestors().skip(1).all(|dir| mode(dir) & 0o001 != 0)
}

/// Returns all files below a folder, its own folders included; links are not followed.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut at = 0;
    while at < all.len() {
        if fs::symlink_metadata(&all[at]).is_ok_and(|meta| meta.is_dir()) {
            let entries = fs::read_dir(&all[at]).expect("a folder");
            all.extend(entries.flatten().map(|entry| entry.path()));
        }
        at += 1;
    }
    all
}

fn modes_keep_others_out(env: &Env) {
    // In the home: what is not private is public by nature, and in a folder that is private.
    for path in below(&env.home()) {
        let meta = fs::symlink_metadata(&path).expect("metadata");
        let open = meta.mode() & 0o077;
        let public = path.extension().is_some_and(|e| e == "crt" || e == "pub");
        assert!(
            open == 0 || (public && open & 0o022 == 0),
            "{} has mode {:o}",
            path.display(),
            meta.mode() & 0o777
        );
        assert!(!is_open(&path), "{} is open to others", path.display());
    }
    assert!(!is_open(&env.kubeconfig()), "the kubeconfig");

    // In the pool, whose folder others may pass through: each disk, memory, log and pipe.
    for path in &in_pool(env) {
        let meta = fs::metadata(path).expect("metadata");
        assert_eq!(meta.mode() & 0o077, 0, "{} is open", path.display());
    }
}

/// Returns what is in the pool's folder.
fn in_pool(env: &Env) -> Vec<PathBuf> {
    let pool: Vec<PathBuf> = below(&pool_folder(env)).into_iter().skip(1).collect();
    assert!(pool.len() > 5, "{pool:?}");
    pool
}

/// An ordinary user, who knows all names, opens each file for writing and for reading.
fn other_users_open_nothing_of_kubbys(env: &Env) {
    let user = User::new();
    let pool = in_pool(env);
    let files = pool.iter().filter(|path| {
        fs::metadata(path).is_ok_and(|meta| meta.is_file() || meta.file_type().is_fifo())
    });
    let own = below(&env.home()).into_iter().filter(|path| path.is_file());
    let log = PathBuf::from(format!("/var/log/libvirt/qemu/{}.log", env.domain()));
    let mut attempt = user.command("timeout");
    attempt
        .args(["60", "bash", "-c", "id -u; for f; do (exec 3<>\"$f\" || exec 3<\"$f\") 2>/dev/null && echo \"$f\"; done; (exec 3</etc/passwd) && echo control", "-"])
        .args(files)
        .args(own)
        .arg(log);
    let opened = Run::of(attempt).ok().stdout;
    let none = format!("{}\ncontrol\n", user.id);
    assert_eq!(opened, none, "another user opened these");
}
