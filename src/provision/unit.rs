//! systemd units, rendered from their parts.

use std::fmt::Write as _;

use crate::remote::NodeFile;

/// The systemd target that holds all of kubby's units.
pub(crate) const TARGET: &str = "kubby.target";
/// The systemd target that holds those of them that a new node begins with; the node starts it by
/// itself as soon as its seed has brought it.
pub(crate) const FIRST_TARGET: &str = "kubby-first.target";

/// The folder of units' files in the node.
pub(super) const UNITS: &str = "/etc/systemd/system/";

/// The delay that timers may have, see [`Unit::unhurried`]. Kubernetes has hundreds of them that
/// look for work every tenth of a second or so, and none that counts milliseconds.
const TIMER_SLACK: &str = "50ms";

/// A unit of kubby in the node. All of them belong to [`TARGET`].
#[must_use]
#[derive(Debug, Clone, Default)]
pub(crate) struct Unit {
    /// File name, such as `etcd.service`.
    pub name: String,
    /// One line for `systemctl status`.
    pub description: String,
    /// Units that it starts after.
    pub after: Vec<String>,
    /// Units that it cannot do without.
    pub requires: Vec<String>,
    /// The section of the unit's own type (`Service`, `Mount`).
    pub section: &'static str,
    /// Lines of that section as `(key, value)`.
    pub lines: Vec<(&'static str, String)>,
    /// Paths of files that the running unit has read: when one changes, it is restarted.
    pub reads: Vec<String>,
    /// Pods can wait for it, so it stays out of the way until the API is nearly ready.
    pub late: bool,
    /// It starts while the node boots, not after: it needs the root file system and nothing else.
    pub early: bool,
    /// It is not started with the node, but by the command that needs it.
    pub on_demand: bool,
    /// A file without which it is left alone: a machine that belongs to no cluster yet lacks it.
    pub condition: Option<String>,
}

impl Unit {
    /// Returns a long-running service. `command` is the program and its arguments; an argument may
    /// hold anything but a line break.
    pub(crate) fn service(name: &str, description: &str, command: &[String]) -> Self {
        Unit {
            name: format!("{name}.service"),
            description: description.to_owned(),
            section: "Service",
            lines: vec![
                (
                    "ExecStart",
                    command
                        .iter()
                        .map(|a| quote(a))
                        .collect::<Vec<_>>()
                        .join(" \\\n  "),
                ),
                ("Restart", "always".into()),
                ("RestartSec", "1".into()),
                // Kubernetes components open a file and a socket for much of what they watch.
                ("LimitNOFILE", "1048576".into()),
            ],
            ..Unit::default()
        }
    }

    /// Adds a line to the section of the unit's own type.
    pub(crate) fn line(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.lines.push((key, value.into()));
        self
    }

    /// Starts it after these units.
    pub(crate) fn after(mut self, units: &[&str]) -> Self {
        self.after.extend(units.iter().map(|u| (*u).to_owned()));
        self
    }

    /// Starts it after these units, and not without them.
    pub(crate) fn requires(mut self, units: &[&str]) -> Self {
        self.requires.extend(units.iter().map(|u| (*u).to_owned()));
        self.after(units)
    }

    /// Lets the kernel fire its timers up to [`TIMER_SLACK`] late if nothing else interrupts an
    /// idle processor, so that many of them share one wake-up. Children inherit it: not for what starts
    /// pods, whose timers are the user's.
    pub(crate) fn unhurried(self) -> Self {
        self.line("TimerSlackNSec", TIMER_SLACK)
    }

    /// Lets it wait until the API is nearly ready, see [`Unit::late`].
    pub(crate) fn late(mut self) -> Self {
        self.late = true;
        self
    }

    /// Starts it while the node boots, see [`Unit::early`].
    pub(crate) fn early(mut self) -> Self {
        self.early = true;
        self
    }

    /// Lets nothing start it with the node, see [`Unit::on_demand`].
    pub(crate) fn on_demand(mut self) -> Self {
        self.on_demand = true;
        self
    }

    /// Lets it be while this file is not there, see [`Unit::condition`].
    pub(crate) fn only_with(mut self, path: &str) -> Self {
        self.condition = Some(path.to_owned());
        self
    }

    /// Restarts it when one of these files changes.
    pub(crate) fn reads<I: IntoIterator<Item = S>, S: Into<String>>(mut self, paths: I) -> Self {
        self.reads.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Returns the path of the unit's file in the node.
    pub(crate) fn path(&self) -> String {
        format!("{UNITS}{}", self.name)
    }

    /// Returns the unit's file.
    pub(crate) fn file(&self) -> NodeFile {
        NodeFile::new(self.path(), 0o644, self.render())
    }

    fn render(&self) -> String {
        let mut text =
            String::from("# Written by kubby; `kubby start` puts it back as it was.\n[Unit]\n");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "Description={}", self.description);
        for (key, units) in [("After", &self.after), ("Requires", &self.requires)] {
            if !units.is_empty() {
                let _ = writeln!(text, "{key}={}", units.join(" "));
            }
        }
        if let Some(path) = &self.condition {
            let _ = writeln!(text, "ConditionPathExists={path}");
        }
        if self.section == "Unit" {
            for (key, value) in &self.lines {
                let _ = writeln!(text, "{key}={value}");
            }
            if self.name == TARGET {
                text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
            }
            return text;
        }
        if self.early {
            let end = if self.section == "Mount" {
                "umount.target"
            } else {
                "shutdown.target"
            };
            let _ = writeln!(
                text,
                "DefaultDependencies=no\nAfter=systemd-remount-fs.service\nConflicts={end}\nBefore={end}"
            );
        }
        // A component that fails is retried indefinitely: kubby and kubectl say what is wrong.
        text.push_str("StartLimitIntervalSec=0\n");
        let _ = writeln!(text, "PartOf={TARGET}");
        let _ = writeln!(text, "\n[{}]", self.section);
        for (key, value) in &self.lines {
            let _ = writeln!(text, "{key}={value}");
        }
        text
    }
}

/// Returns the target that wants all units but those on demand, so that one `enable` and one
/// `start` reach them.
pub(super) fn target(units: &[Unit]) -> Unit {
    target_of(TARGET, "Kubernetes node by kubby", units, |u| !u.on_demand)
}

/// Returns the target that wants what a new node begins with: all but the late units.
pub(super) fn first_target(units: &[Unit]) -> Unit {
    let description = "First units of a Kubernetes node by kubby";
    target_of(FIRST_TARGET, description, units, |u| {
        !u.on_demand && !u.late
    })
}

fn target_of(name: &str, description: &str, units: &[Unit], wants: fn(&Unit) -> bool) -> Unit {
    let wanted = units.iter().filter(|unit| wants(unit));
    let names: Vec<&str> = wanted.map(|u| u.name.as_str()).collect();
    Unit {
        name: name.to_owned(),
        description: description.to_owned(),
        section: "Unit",
        lines: vec![("Wants", names.join(" "))],
        ..Unit::default()
    }
}

/// Quotes an argument for `ExecStart=` (systemd.service(5), "Command lines").
fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '*'..=':' | '=' | '@' | '_');
    // `%` and `$` are specifiers and variables to systemd; of these, the node's own are meant.
    let arg = arg.replace('%', "%%").replace('$', "$$");
    let arg = arg.replace("$${NODE_", "${NODE_");
    if !arg.is_empty() && arg.chars().all(|c| plain(c) || c == '%' || c == '$') {
        return arg;
    }
    format!("\"{}\"", arg.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_renders() {
        let unit = Unit::service(
            "etcd",
            "etcd",
            &["/opt/kubby/bin/etcd".into(), "--name=a b".into()],
        )
        .line("Type", "notify")
        .requires(&["opt-kubby.mount"]);
        insta::assert_snapshot!(unit.render(), @r#"
        # Written by kubby; `kubby start` puts it back as it was.
        [Unit]
        Description=etcd
        After=opt-kubby.mount
        Requires=opt-kubby.mount
        StartLimitIntervalSec=0
        PartOf=kubby.target

        [Service]
        ExecStart=/opt/kubby/bin/etcd \
          "--name=a b"
        Restart=always
        RestartSec=1
        LimitNOFILE=1048576
        Type=notify
        "#);
    }

    #[test]
    fn an_early_unit_waits_for_the_root_file_system_only() {
        let text = Unit::service("a", "", &[]).early().render();
        assert!(text.contains("DefaultDependencies=no\n"), "{text}");
        assert!(text.contains("Before=shutdown.target\n"), "{text}");
        let late = Unit::service("b", "", &[]).late();
        let first = first_target(&[Unit::service("a", "", &[]), late]).render();
        assert!(first.contains("Wants=a.service\n"), "{first}");
    }

    #[test]
    fn the_target_wants_all_and_is_enabled() {
        let units = ["a", "b", "c"].map(|name| Unit::service(name, "", &[]));
        let [a, b, c] = units;
        let target = target(&[a, b, c.on_demand()]);
        let text = target.render();
        assert!(text.contains("Wants=a.service b.service\n"), "{text}");
        assert!(text.contains("WantedBy=multi-user.target"), "{text}");
    }

    #[test]
    fn arguments_are_quoted_for_systemd() {
        for (arg, quoted) in [
            ("--a=b", "--a=b"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("50%", "50%%"),
            ("$HOME", "$$HOME"),
            ("say \"hi\\\"", "\"say \\\"hi\\\\\\\"\""),
        ] {
            assert_eq!(quote(arg), quoted);
        }
    }
}
