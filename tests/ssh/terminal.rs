//! Shells and commands on a pseudo-terminal, which `script` provides.

use std::path::Path;
use std::process::Command;

use kubby::testing::remote::Target;
use rustix::process::{Pid, Signal, kill_process};

use crate::helper::{Helper, Process};
use crate::server::connected;

/// Starts the helper in a terminal of 33 rows and 111 columns. The terminal's settings before and
/// after are kept as `before` and `after` in `dir`, and the helper's code is printed.
fn in_terminal(target: &Target, dir: &Path, action: &str, command: &str) -> Process {
    let script = format!(
        "tty; stty rows 33 cols 111; stty -a > {dir}/before\n{}\necho code=$?\nstty -a > {dir}/after\n",
        Helper::shell_command(),
        dir = dir.display(),
    );
    let path = dir.join("script");
    std::fs::write(&path, script).unwrap();
    let mut command_line = Command::new("script");
    command_line
        .args(["-qec", &format!("sh {}", path.display()), "/dev/null"])
        .env("TERM", "screen-256color")
        .env("LC_KUBBY", "passed");
    Process::spawn(Helper::new(target, action, command).apply(&mut command_line))
}

fn assert_restored(dir: &Path) {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert!(read("before").contains(" icanon") && read("before").contains(" echo "));
    // The size may have been changed on purpose; the modes may not.
    let modes = |text: String| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(modes(read("before")), modes(read("after")));
}

#[test]
fn a_shell_has_the_terminals_size_type_and_locale_and_follows_a_resize() {
    let (site, _running, _ssh) = connected();
    let mut shell = in_terminal(&site.target, site.path(), "shell", "");
    let seen = shell.await_begin();
    let tty = seen
        .lines()
        .find(|line| line.starts_with("/dev/"))
        .unwrap()
        .trim()
        .to_owned();
    // The command as typed is echoed; what it computes is not in it.
    shell.send("echo $((40+2))=$TERM=$LC_KUBBY; stty size\r");
    shell.expect("42=screen-256color=passed");
    shell.expect("33 111");
    let resized = Command::new("stty")
        .args(["-F", &tty, "rows", "44", "cols", "122"])
        .status();
    assert!(resized.unwrap().success());
    std::thread::sleep(std::time::Duration::from_millis(500));
    shell.send("stty size\r");
    shell.expect("44 122");
    // Ctrl-C is for the node, not for this side.
    shell.send("sleep 600\r");
    std::thread::sleep(std::time::Duration::from_millis(300));
    shell.send("\x03");
    shell.send("echo $((50+1))still\r");
    shell.expect("51still");
    shell.send("exit 7\r");
    shell.expect("code=7");
    shell.wait();
    assert_restored(site.path());
}

#[test]
fn a_command_with_a_terminal_has_one_and_passes_its_status_on() {
    let (site, _running, _ssh) = connected();
    let command = "test -t 0 && test -t 1 && test -t 2 && echo yes; stty size; exit 5";
    let process = in_terminal(&site.target, site.path(), "exec-tty", command);
    process.expect("yes");
    process.expect("33 111");
    process.expect("code=5");
    process.wait();
    assert_restored(site.path());
}

#[test]
fn a_signal_restores_the_terminal() {
    for signal in [Signal::TERM, Signal::HUP] {
        let (site, _running, _ssh) = connected();
        let process = in_terminal(
            &site.target,
            site.path(),
            "exec-tty",
            "echo ready; sleep 600",
        );
        let seen = process.expect("ready");
        let pid = seen
            .lines()
            .find_map(|line| line.trim().strip_prefix("pid="))
            .unwrap();
        kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), signal).unwrap();
        process.expect("code=130");
        process.wait();
        assert_restored(site.path());
    }
}

#[test]
fn a_shell_without_a_terminal_reads_commands_from_its_input() {
    let (site, _running, _ssh) = connected();
    let mut shell = Helper::new(&site.target, "shell", "").spawn();
    shell.send("echo $((6*7)); test -t 0 || exit 8\n");
    drop(shell.stdin.take());
    let ended = shell.wait();
    assert_eq!(
        ended.code,
        Some(8),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    assert!(String::from_utf8_lossy(&ended.stdout).contains("42\n"));
}
