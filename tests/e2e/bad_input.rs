//! Bad input against the real libvirt: a clear error, and nothing changed.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::env::Env;
use crate::group::{NO_KVM, ROOT, Test};
use crate::program::Run;

pub const TESTS: &[Test] = tests![
    a_foreign_domain_is_left_alone,
    a_foreign_context_is_left_alone,
    a_damaged_kubeconfig_is_left_alone,
    a_taken_port_is_named,
    sizes_beyond_the_host_are_refused,
    kvm_where_there_is_none_is_refused.needs(NO_KVM),
    no_libvirt_is_reported,
    no_permission_is_reported.needs(ROOT),
    a_newer_profile_is_left_alone,
    a_damaged_profile_is_broken_and_deletable,
];

/// Checks that nothing was made: no state, no domain.
#[track_caller]
fn nothing_made(env: &Env, profile: &str) {
    assert!(
        !env.home().join("profiles").join(profile).exists(),
        "a profile was made"
    );
    let domains = env.virsh(&["list", "--all", "--name"]).ok().stdout;
    assert!(
        !domains
            .lines()
            .any(|d| d.trim() == format!("kubby-{profile}")),
        "{domains}"
    );
}

fn a_foreign_domain_is_left_alone(env: &Env) {
    let name = format!("f{}", std::process::id());
    let xml = env.root().join("foreign.xml");
    std::fs::write(
        &xml,
        format!("<domain type='qemu'><name>kubby-{name}</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"),
    )
    .expect("a file");
    env.virsh(&["define", &xml.display().to_string()]).ok();
    env.kubby_on(&name, &["start"])
        .exits(15)
        .says("that is not this cluster's")
        .says("--profile");
    assert!(!env.home().join("profiles").join(&name).exists());
    env.kubby_on(&name, &["delete"]).ok().says("stays");
    env.virsh(&["undefine", &format!("kubby-{name}")]).ok();
}

fn with_kubeconfig(env: &Env, text: &str, check: impl FnOnce()) {
    let path = env.kubeconfig();
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(&path, text).expect("a kubeconfig");
    check();
    assert_eq!(
        std::fs::read_to_string(&path).expect("the kubeconfig"),
        text,
        "it was changed"
    );
    std::fs::remove_file(&path).expect("removing it");
}

fn a_foreign_context_is_left_alone(env: &Env) {
    let text = "apiVersion: v1\nkind: Config\ncontexts:\n- name: kubby-mine\n  context: {cluster: c, user: u}\n";
    with_kubeconfig(env, text, || {
        env.kubby_on("mine", &["start"])
            .exits(16)
            .says("kubby-mine")
            .says("--profile");
        nothing_made(env, "mine");
    });
}

fn a_damaged_kubeconfig_is_left_alone(env: &Env) {
    with_kubeconfig(env, "clusters: [\n  - {\n", || {
        env.kubby_on("mine", &["start"]).exits(16).says("line");
        nothing_made(env, "mine");
    });
}

fn a_taken_port_is_named(env: &Env) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener
        .local_addr()
        .expect("an address")
        .port()
        .to_string();
    for flag in ["--api-port", "--ssh-port"] {
        env.kubby_on("mine", &["start", flag, &port])
            .exits(10)
            .says(&port)
            .says(flag);
    }
    nothing_made(env, "mine");
}

fn sizes_beyond_the_host_are_refused(env: &Env) {
    env.kubby_on("mine", &["start", "--memory", "900TiB"])
        .exits(10)
        .says("this host has");
    env.kubby_on("mine", &["start", "--cpus", "500"])
        .exits(10)
        .says("CPUs");
    env.kubby_on("mine", &["start", "--memory", "100MiB"])
        .exits(2)
        .says("too little");
    env.kubby_on("mine", &["start", "--disk", "1GiB"])
        .exits(2)
        .says("too little");
    nothing_made(env, "mine");
}

fn kvm_where_there_is_none_is_refused(env: &Env) {
    env.kubby_on("mine", &["start", "--accel", "kvm"])
        .exits(10)
        .says("software emulation");
    nothing_made(env, "mine");
}

fn no_libvirt_is_reported(env: &Env) {
    let run = env.kubby_on(
        "mine",
        &[
            "start",
            "--connect",
            "qemu+unix:///system?socket=/nonexistent/sock",
        ],
    );
    assert!([10, 12].contains(&run.code), "{}\n{}", run.code, run.stderr);
    run.says("libvirt").says("hint:");
    nothing_made(env, "mine");
}

fn no_permission_is_reported(env: &Env) {
    // A stranger's home that the stranger can write to.
    let home = env.root().join("stranger");
    std::fs::create_dir_all(&home).expect("a folder");
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o777)).expect("chmod");
    std::fs::set_permissions(env.root(), std::fs::Permissions::from_mode(0o711)).expect("chmod");
    let program = env.root().join("kubby");
    std::fs::copy(env!("CARGO_BIN_EXE_kubby"), &program).expect("a copy");
    let mut command = std::process::Command::new(&program);
    command
        .args(["start", "--connect", "qemu:///system"])
        .env("KUBBY_HOME", home.join("home"))
        .env("KUBBY_CACHE", home.join("cache"))
        .env("KUBECONFIG", home.join("config"))
        .env("HOME", &home)
        .uid(65534)
        .gid(65534);
    let run = Run::of(command);
    std::fs::set_permissions(env.root(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    assert!([10, 12].contains(&run.code), "{}\n{}", run.code, run.stderr);
    run.says("qemu:///session");
    nothing_made(env, "kubby");
}

fn a_newer_profile_is_left_alone(env: &Env) {
    let dir = env.home().join("profiles/newer");
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join("profile.toml"), "version = 99\n").expect("a file");
    env.kubby_on("newer", &["start"])
        .exits(15)
        .says("newer kubby");
    env.kubby_on("newer", &["status", "-o", "json"])
        .ok()
        .prints("Broken");
    assert_eq!(
        std::fs::read_to_string(dir.join("profile.toml")).expect("it"),
        "version = 99\n"
    );
    std::fs::remove_dir_all(&dir).expect("removing it");
}

fn a_damaged_profile_is_broken_and_deletable(env: &Env) {
    let dir = env.home().join("profiles/hurt");
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join("profile.toml"), "version = 1\nname = ").expect("a file");
    env.kubby_on("hurt", &["start"])
        .exits(15)
        .says("damaged")
        .says("kubby delete");
    let list = env.kubby_on("hurt", &["list", "-o", "json"]).ok().json();
    assert_eq!(list["profiles"][0]["host"], "Broken");
    env.kubby_on("hurt", &["delete"]).ok();
    assert!(!dir.exists());
}
