//! Starts that must fail, and say so at once.

use std::path::Path;
use std::time::Duration;

use crate::env::Env;
use crate::group::{ROOT, Test};
use crate::program::Run;
use crate::saving::{named, pool};

pub const TESTS: &[Test] = tests![
    a_kernel_panic_is_reported_at_once,
    a_machine_that_rests_is_reported,
    a_full_disk_is_reported.needs(ROOT),
];

/// Starts a machine that runs this program for an init: it gets two more chances, then is given up.
fn with_init(env: &Env, suffix: &str, init: &str) -> Run {
    let profile = &named(env, suffix);
    let init = format!("init={init}");
    let run = env
        .kubby_on(
            profile,
            &["start", "--kernel-arg", &init, "--memory", "2GiB"],
        )
        .exits(13)
        .says("powering it off and on again: attempt 3 of 3")
        .says(&format!("kubby logs -p {profile} --console"));
    note!("reported after {:.1} s", run.took.as_secs_f64());
    env.kubby_on(profile, &["delete"]).ok();
    let domains = env.virsh(&["list", "--all", "--name"]).ok().stdout;
    assert!(!domains.contains(profile), "{domains}");
    assert!(!env.home().join("profiles").join(profile).exists());
    run
}

fn a_kernel_panic_is_reported_at_once(env: &Env) {
    with_init(env, "panic", "/bin/false")
        .says("panicked")
        .says("the console's last lines");
}

/// As one whose processor lost an interrupt: nothing on the console, and nothing ever happens.
fn a_machine_that_rests_is_reported(env: &Env) {
    let run = with_init(env, "rest", "/bin/cat").says("appears to hang");
    assert_eq!(
        run.stderr.matches("tries again").count(),
        1,
        "{}",
        run.stderr
    );
    assert!(run.took < Duration::from_secs(120), "{:?}", run.took);
}

/// The pool's folder is on a file system that is too small for the images.
fn a_full_disk_is_reported(env: &Env) {
    let full = env.another_home("full");
    let folder = Path::new("/var/lib/libvirt/images").join(pool(&full));
    let tool = |program: &str, args: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(args).arg(&folder);
        Run::of(command)
    };
    std::fs::create_dir_all(&folder).expect("a folder");
    tool("mount", &["-t", "tmpfs", "-o", "size=100m", "tmpfs"]).ok();
    let run = full.kubby(&["start"]);
    let deleted = full.kubby(&["delete"]);
    tool("umount", &[]).ok();
    let _ = std::fs::remove_dir(&folder);
    assert!([10, 12].contains(&run.code), "{}\n{}", run.code, run.stderr);
    run.says("room");
    deleted.ok();
    assert!(!full.home().exists());
}
