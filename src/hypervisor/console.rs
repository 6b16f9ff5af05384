//! Reading a node's serial console: a panic, a rescue shell, a login prompt.

/// A reason why the node will not come up, as its console shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The kernel panicked; its line.
    Panic(String),
    /// systemd gave up on the boot and waits for a user at the console.
    EmergencyMode,
    /// The initial RAM disk did not find the root file system and shows a shell.
    InitramfsShell,
    /// The firmware found nothing to boot.
    NoBootDevice,
}

impl Trouble {
    /// Returns what happened, as a phrase that starts an error message.
    pub(crate) fn message(&self) -> String {
        match self {
            Trouble::Panic(line) => format!("the node's kernel panicked: {line}"),
            Trouble::EmergencyMode => "the node booted into emergency mode".into(),
            Trouble::InitramfsShell => {
                "the node's initial RAM disk did not find the root file system".into()
            }
            Trouble::NoBootDevice => "the node's firmware found nothing to boot".into(),
        }
    }
}

/// The result of [`scan`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ConsoleState {
    /// The reason why the boot makes no more progress, if there is one.
    pub trouble: Option<Trouble>,
    /// The whole machine ran out of memory and the kernel killed this program. The node may
    /// still live, so this explains a later failure rather than being one.
    pub out_of_memory: Option<String>,
    /// The kernel said that a timer of one of its threads did not fire.
    pub timer_lost: bool,
    /// The boot got as far as the login prompt, after which the console is silent.
    pub login: bool,
}

/// Reads the console's text since the last start of the machine.
pub(crate) fn scan(text: &str) -> ConsoleState {
    let mut state = ConsoleState::default();
    for line in text.lines() {
        let line = clean(line);
        if let Some(trouble) = trouble_of(&line) {
            state.trouble.get_or_insert(trouble);
        }
        if let Some(program) = killed_program(&line) {
            state.out_of_memory.get_or_insert(program);
        }
        state.timer_lost |= line.contains("kthread timer wakeup didn't happen");
        // A reboot within the guest writes on: what counts is the last boot.
        if line.contains("] Linux version ") {
            state = ConsoleState::default();
        }
        state.login |= line.trim_end().ends_with(" login:");
    }
    state
}

/// Returns whether the kernel reports with this line that something does not happen (`rcu: INFO:
/// rcu_preempt detected stalls …` and what it says of that).
pub(crate) fn is_stall_report(line: &str) -> bool {
    line.contains("] rcu: ")
}

fn trouble_of(line: &str) -> Option<Trouble> {
    if let Some(start) = line.find("Kernel panic - ") {
        return Some(Trouble::Panic(line[start..].trim_end().to_owned()));
    }
    let shell = [
        "(initramfs)",
        "dracut:/#",
        "Entering emergency mode. Exit the shell",
    ];
    if shell.iter().any(|s| line.trim_start().starts_with(s)) || line.contains("ALERT!  ") {
        return Some(Trouble::InitramfsShell);
    }
    if line.contains("You are in emergency mode") || line.contains("You are in rescue mode") {
        return Some(Trouble::EmergencyMode);
    }
    let firmware = ["No bootable device", "Boot failed: not a bootable disk"];
    firmware
        .iter()
        .any(|s| line.contains(s))
        .then_some(Trouble::NoBootDevice)
}

/// Returns the program in `Out of memory: Killed process 812 (kube-apiserver) …`. A kill within a
/// control group's limit starts with `Memory cgroup` and is one container's own affair.
fn killed_program(line: &str) -> Option<String> {
    let rest = line.split_once("Out of memory: Kill")?.1;
    let (_, name) = rest.split_once('(')?;
    Some(name.split_once(')')?.0.to_owned())
}

/// Returns the last `lines` lines that are not empty, without escape sequences and control
/// characters.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<String> = text
        .lines()
        .map(|l| clean(l).trim_end().to_owned())
        .filter(|l| !l.is_empty())
        .collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Removes ANSI escape sequences and control characters from one line. A carriage return starts
/// the line again on a terminal, so only what was written last is kept.
fn clean(line: &str) -> String {
    let plain = anstream::adapter::strip_str(line).to_string();
    let shown = plain.trim_end_matches('\r').rsplit('\r').next();
    let shown = shown.unwrap_or_default().replace('\t', " ");
    shown.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.3-debian-1.16.3-2)\r\n\
Booting from ROM..\r\n\
[    0.000000] Linux version 6.12.48+deb13-cloud-amd64 (debian-kernel@lists.debian.org)\r\n\
[    1.234567] Run /init as init process\r\n\
[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh.service\x1b[0m - OpenBSD Secure Shell server.\r\n\
\r\n\
Debian GNU/Linux 13 kubby ttyS0\r\n\
\r\n\
kubby login: ";

    const PANIC: &str = "[    9.1] systemd[1]: Starting modprobe@drm.service...\r\n\
[   10.4] list_del corruption. next->prev should be ffff8881, but was 0000000000000000\r\n\
[   10.5] Kernel panic - not syncing: Fatal exception in interrupt\r\n\
[   10.5] ---[ end Kernel panic - not syncing: Fatal exception in interrupt ]---\r\n";

    #[test]
    fn a_good_boot_ends_at_the_login_prompt() {
        let state = scan(GOOD);
        assert_eq!(
            state,
            ConsoleState {
                login: true,
                ..ConsoleState::default()
            }
        );
        assert!(!scan(&GOOD[..GOOD.len() - 8]).login);
    }

    #[test]
    fn troubles_are_told_apart() {
        let panic = "Kernel panic - not syncing: Fatal exception in interrupt";
        let table = [
            (PANIC, Some(Trouble::Panic(panic.into()))),
            (
                "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
                Some(Trouble::Panic(
                    "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
                        .into(),
                )),
            ),
            (
                "You are in emergency mode. After logging in, type \"journalctl -xb\" to view\r\n",
                Some(Trouble::EmergencyMode),
            ),
            (
                "Gave up waiting for root file system device.\r\nALERT!  /dev/vda does not exist.  Dropping to a shell!\r\n",
                Some(Trouble::InitramfsShell),
            ),
            ("\r\n\r\n(initramfs) \x1b[6n", Some(Trouble::InitramfsShell)),
            ("dracut:/# ", Some(Trouble::InitramfsShell)),
            ("Booting from Hard Disk...\r\nBoot failed: not a bootable disk\r\n\r\nNo bootable device.\r\n", Some(Trouble::NoBootDevice)),
            ("[    0.1] Command line: root=/dev/vda panic=10 console=ttyS0", None),
            ("[    0.1] Kernel panic_on_oops is not set", None),
            ("", None),
        ];
        for (text, trouble) in table {
            assert_eq!(scan(text).trouble, trouble, "{text}");
        }
    }

    #[test]
    fn only_a_kill_of_the_whole_machine_counts() {
        let global = "[  90.1] Out of memory: Killed process 812 (kube-apiserver) total-vm:1kB";
        assert_eq!(
            scan(global).out_of_memory.as_deref(),
            Some("kube-apiserver")
        );
        let group = "[  90.1] Memory cgroup out of memory: Killed process 812 (app) total-vm:1kB";
        assert_eq!(scan(group).out_of_memory, None);
    }

    #[test]
    fn a_reboot_starts_again() {
        let rebooted = format!("{PANIC}[    0.000000] Linux version 6.12.48\r\n");
        assert_eq!(scan(&rebooted), ConsoleState::default());
    }

    #[test]
    fn the_tail_is_plain_text() {
        assert_eq!(
            tail(GOOD, 3),
            "[  OK  ] Started ssh.service - OpenBSD Secure Shell server.\n\
             Debian GNU/Linux 13 kubby ttyS0\nkubby login:"
        );
        assert_eq!(
            tail("a\x1b]0;title\x07b\r\nc\x1b]0;t\x1b\\d\n", 9),
            "ab\ncd"
        );
        assert_eq!(tail("10%\r20%\r30%\r\n", 9), "30%");
        assert_eq!(tail("x\x1b(By\x00\x07", 9), "xy");
        assert_eq!(tail("", 3), "");
        assert_eq!(tail("cut\x1b[", 3), "cut");
    }
}
