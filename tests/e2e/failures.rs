//! Starts that must fail, and say so at once.

use crate::env::{Env, Run, Test, uri};

pub const TESTS: &[Test] = &[
    (
        "a_kernel_panic_is_told_at_once",
        a_kernel_panic_is_told_at_once,
    ),
    ("a_full_disk_is_told", a_full_disk_is_told),
];

fn a_kernel_panic_is_told_at_once(env: &Env) {
    let run = env
        .kubby_on(
            "panic",
            &[
                "start",
                "--kernel-arg",
                "init=/bin/false",
                "--memory",
                "2GiB",
            ],
        )
        .exits(13)
        .says("panic")
        .says("the console's last lines")
        .says("kubby logs -p panic --console");
    eprintln!("  told after {:.1} s", run.took.as_secs_f64());
    env.kubby_on("panic", &["delete"]).ok();
    let domains = env.virsh(&["list", "--all", "--name"]).ok().stdout;
    assert!(!domains.contains("kubby-panic"), "{domains}");
    assert!(!env.home().join("profiles/panic").exists());
}

/// The pool's folder on a file system that is too small for the images.
fn a_full_disk_is_told(env: &Env) {
    if uri() != "qemu:///system" {
        eprintln!("  only root can mount a small file system");
        return;
    }
    let home = env.root().join("full-home");
    let kubby = |args: &[&str]| {
        let mut command = env.kubby_command();
        command
            .env("KUBBY_HOME", &home)
            .env("LIBVIRT_DEFAULT_URI", uri())
            .args(args);
        Run::of(command)
    };
    let folder = {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(home.as_os_str().as_encoded_bytes());
        let short: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
        format!("/var/lib/libvirt/images/kubby-{short}")
    };
    let tool = |program: &str, args: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(args);
        Run::of(command)
    };
    std::fs::create_dir_all(&folder).expect("a folder");
    tool(
        "mount",
        &["-t", "tmpfs", "-o", "size=100m", "tmpfs", &folder],
    )
    .ok();
    let run = kubby(&["start", "-p", "full"]);
    let deleted = kubby(&["delete", "-p", "full"]);
    tool("umount", &[&folder]).ok();
    let _ = std::fs::remove_dir(&folder);
    assert!([10, 12].contains(&run.code), "{}\n{}", run.code, run.stderr);
    run.says("room");
    deleted.ok();
    assert!(!home.exists());
}
