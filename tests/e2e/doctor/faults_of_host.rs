//! Faults of the host: libvirt, storage, network, environment, clock, permissions.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use kubby::testing::hypervisor::{Hypervisor, POOL_MARK};
use kubby::testing::store::Store;

use super::place::Place;
use super::{Fault, nothing};
use crate::env::uri;
use crate::program::Run;

pub fn all<'a>(place: &'a Place<'_>) -> Vec<Fault<'a>> {
    let mut faults = vec![
        Fault::new("libvirt", "libvirt's daemon does not run", nothing).under(
            "LIBVIRT_DEFAULT_URI",
            "qemu+unix:///system?socket=/nonexistent/libvirt-sock",
        ),
        Fault::new("proxies", "127.0.0.1:1, where no program", nothing)
            .under("HTTPS_PROXY", "http://127.0.0.1:1"),
        Fault::new("proxies", "HTTP_PROXY is not usable", nothing)
            .under("HTTP_PROXY", "http://me:secret@proxy:port"),
        clock(place),
        port(place),
        secret(place, "pki/admin.key", 0o644, 0o600),
        secret(place, "pki", 0o755, 0o700),
    ];
    faults.extend(pools(place));
    if uri() == "qemu:///system" {
        faults.extend(of_root(place));
    } else {
        note!("only root can plant all faults");
    }
    faults
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

fn mode(path: &Path) -> u32 {
    let meta = fs::metadata(path).expect("a file");
    meta.permissions().mode() & 0o777
}

fn secret<'a>(place: &'a Place<'_>, file: &str, open: u32, closed: u32) -> Fault<'a> {
    let path = place.dir.root().join(file);
    let words = path.display().to_string();
    Fault::new("secrets", words, move || {
        set_mode(&path, open);
        Box::new(move || assert_eq!(mode(&path), closed))
    })
    .fixable()
}

/// The profile was written later than now.
fn clock<'a>(place: &'a Place<'_>) -> Fault<'a> {
    let set = |time| {
        let file = fs::File::options().append(true).open(place.dir.profile());
        let file = file.expect("the profile");
        file.set_modified(time).expect("a time");
    };
    Fault::new("clock", "gone back", move || {
        set(SystemTime::now() + Duration::from_secs(2 * 3600));
        Box::new(move || set(SystemTime::now()))
    })
}

/// Another program listens on the port of the cluster, which is off.
fn port<'a>(place: &'a Place<'_>) -> Fault<'a> {
    let port = place.profile.api_port();
    Fault::new("ports", format!("the port {port} of"), move || {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port");
        Box::new(move || drop(listener))
    })
}

fn pools<'a>(place: &'a Place<'_>) -> Vec<Fault<'a>> {
    let virsh = move |command: &str| {
        place.env.virsh(&[command, &place.pool()]).ok();
    };
    let mut missing = Fault::new("pool", "folder", move || {
        let (there, away) = (place.target(), place.target().with_extension("away"));
        virsh("pool-destroy");
        fs::rename(&there, &away).expect("a move");
        Box::new(move || {
            // As the disk comes back that the folder is on.
            for entry in fs::read_dir(&there).expect("a folder made again").flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                assert!(
                    name.starts_with(POOL_MARK),
                    "{name} and not the home's mark"
                );
            }
            fs::remove_dir_all(&there).expect("the folder goes");
            fs::rename(&away, &there).expect("a move");
            virsh("pool-refresh");
        })
    })
    .fixable();
    missing.whole = false;
    vec![
        Fault::new("pool", "not started", move || {
            virsh("pool-destroy");
            nothing()
        })
        .fixable(),
        Fault::new("pool", "no storage pool", move || {
            virsh("pool-destroy");
            virsh("pool-undefine");
            nothing()
        })
        .fixable(),
        missing,
    ]
}

fn tool(program: &str, args: &[&str]) {
    let mut command = Command::new(program);
    command.args(args);
    Run::of(command).ok();
}

fn of_root<'a>(place: &'a Place<'_>) -> Vec<Fault<'a>> {
    let pool = place.target().display().to_string();
    let home = place.env.root().join("small-home");
    let small = Store::at(&home, &home).pool_target(uri());
    let mut faults = vec![
        Fault::new("permissions", format!("pass through {pool}"), move || {
            set_mode(&place.target(), 0o700);
            nothing()
        })
        .fixable(),
        // Nothing is needed in that home: the place for its volumes is small all the same.
        Fault::new("disk", "only", move || {
            let folder = small.display().to_string();
            fs::create_dir_all(&small).expect("a folder");
            tool(
                "mount",
                &["-t", "tmpfs", "-o", "size=100m", "tmpfs", &folder],
            );
            Box::new(move || {
                tool("umount", &[&folder]);
                fs::remove_dir(&small).expect("an empty folder");
            })
        })
        .under("KUBBY_HOME", home.display().to_string()),
        // A network of its own begins with its loopback down.
        Fault::new("firewall", "127.0.0.1 does not answer", nothing).within(""),
    ];
    let docker = "mount -t sysfs sysfs /sys && ip link set lo up && \
                  ip link add virbr9 type bridge && iptables -P FORWARD DROP || exit 99";
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", docker]);
    if Run::of(command).code == 0 {
        faults.push(Fault::new("firewall", "virbr9", nothing).within(docker));
    } else {
        note!("this host has no packet filter to plant a rule in");
    }
    // As of another home, which has no cluster and whose pool is empty.
    let home = place.env.root().join("empty-home");
    let store = Store::at(&home, &home);
    let (name, target) = (store.pool_name(), store.pool_target(uri()));
    faults.push(
        Fault::new("leftover-pool", name.clone(), move || {
            place.libvirt.ensure_pool(&name, &target).expect("a pool");
            Box::new(move || {
                assert!(!place.libvirt.has_pool(&name).expect("libvirt"));
                assert!(!target.exists());
            })
        })
        .fixable()
        .under("KUBBY_HOME", home.display().to_string()),
    );
    faults
}
