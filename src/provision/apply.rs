//! Brings the node to what the plan wants: compares, pushes what differs, starts the units.

use super::runtime;
use super::unit::{FIRST_TARGET, TARGET, UNITS};
use super::wanted::{COMPONENTS_DIR, Wanted};
use crate::error::{Error, Result};
use crate::remote::Remote;
use crate::trace;

/// The changes that [`apply`] made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Paths that were written.
    pub changed: Vec<String>,
    /// Units that were running and were restarted since something that they had read changed.
    pub restarted: Vec<String>,
}

/// Makes the node hold `wanted`'s files and run its units, the late ones excepted. Returns when the
/// units are queued, not when they are up: health is waited for from the host.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails, [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when a command in the node does.
pub(crate) fn apply(remote: &mut dyn Remote, wanted: &Wanted) -> Result<Applied> {
    {
        let _span = trace::span("mount the components");
        mount(remote)?;
    }
    let changed: Vec<usize> = {
        let _span = trace::span("compare the files");
        remote.changed(&wanted.files, &wanted.optional)?
    };
    let files: Vec<_> = changed.iter().map(|i| wanted.files[*i].clone()).collect();
    if !files.is_empty() {
        check_flags(remote, wanted)?;
    }
    if !files.is_empty() {
        let _span = trace::span("push the files");
        remote.push(&files)?;
    }
    let paths: Vec<String> = files.iter().map(|f| f.path.clone()).collect();
    let affected: Vec<String> = wanted
        .units
        .iter()
        .filter(|unit| {
            unit.section == "Service"
                && (paths.contains(&unit.path()) || unit.reads.iter().any(|r| paths.contains(r)))
        })
        .map(|unit| unit.name.clone())
        .collect();
    let units: Vec<&str> = wanted.units.iter().map(|u| u.name.as_str()).collect();
    let actions = wanted.actions.iter();
    let due = actions.filter(|a| paths.iter().any(|p| p == a.path));
    let mut before: Vec<String> = Vec::new();
    for action in due {
        // Several files may need the same command.
        if !before.iter().any(|command| command == action.command) {
            before.push(action.command.to_owned());
        }
    }
    before.extend(wanted.tidy.iter().map(|tidy| tidy.script(wanted)));
    let restarted = start(
        remote,
        &affected,
        &units,
        !paths.iter().any(|path| path.starts_with(UNITS)),
        &before.join("\n"),
    )?;
    Ok(Applied {
        changed: paths,
        restarted,
    })
}

/// Asks programs whether they take the flags that the user sets.
fn check_flags(remote: &mut dyn Remote, wanted: &Wanted) -> Result<()> {
    for check in &wanted.checks {
        let output = remote.run(&check.command())?;
        if output.status != 0 {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().last().unwrap_or_default().trim();
            let (program, flags) = (check.program, check.flags.join(" "));
            return Err(
                Error::usage(format!("{program} does not take {flags}: {said}"))
                    .with_hint("kubby start --extra-config COMPONENT.FLAG- takes a setting back"),
            );
        }
    }
    Ok(())
}

/// The status of a script in a node that lacks a program of the runtime.
const OLD_NODE: i32 = 77;

/// Mounts the component volume, as its unit does from the next boot on, and lets the kernel read
/// the programs that start first while the files are compared and pushed.
fn mount(remote: &mut dyn Remote) -> Result<()> {
    let script = format!(
        "set -eu\nif mountpoint -q {COMPONENTS_DIR}; then :\n\
         elif [ -e /etc/systemd/system/{} ]; then systemctl start {0}\n\
         else\nmkdir -p {COMPONENTS_DIR}\n\
         mount -t {} -o {} {} {COMPONENTS_DIR}\n\
         cat {COMPONENTS_DIR}/bin/etcd {COMPONENTS_DIR}/bin/kube-apiserver >/dev/null 2>&1 </dev/null &\nfi\n\
         for program in {}; do\n[ -x $program ] || {{ echo $program; exit {OLD_NODE}; }}\ndone\n",
        runtime::MOUNT,
        runtime::FILE_SYSTEM,
        runtime::MOUNT_OPTIONS,
        runtime::DEVICE,
        // One of the component volume, one of the node image.
        [&super::wanted::binary("containerd"), runtime::OCI_RUNTIME].join(" ")
    );
    let output = remote.run(&script)?;
    if output.status == OLD_NODE {
        return Err(Error::state(format!(
            "the node has no {}: its image or its components were made by an older version of kubby",
            output.text().trim()
        ))
        .with_hint("recreate the cluster: kubby delete, then kubby start")
        .with_hint("an image for --image is built by kubby node-image build --export FILE"));
    }
    output.require("mounting the component volume").map(drop)
}

/// Lets the kernel of a worker read the programs and the module that it needs as it joins a cluster.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails, [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when they cannot be read.
pub(crate) fn read_programs(remote: &mut dyn Remote) -> Result<()> {
    let programs = ["kubelet", "kube-proxy"].map(super::wanted::binary);
    let script = format!(
        "modprobe wireguard\ncat {} {} $(command -v ip) $(command -v wg) >/dev/null",
        programs.join(" "),
        super::balancer::PROGRAM
    );
    remote
        .run(&script)?
        .require("reading the programs")
        .map(drop)
}

/// Starts the rest of the units; all that [`apply`] has started run on.
///
/// # Errors
/// As [`apply`].
pub(crate) fn start_all(remote: &mut dyn Remote) -> Result<()> {
    let _span = trace::span("start the late units");
    let command = format!("systemctl start --no-block {TARGET}");
    remote
        .run(&command)?
        .require("starting the Kubernetes units")
        .map(drop)
}

/// Returns whether the restarts that [`apply`] has queued are through.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails.
pub(crate) fn settled(remote: &mut dyn Remote, restarted: &[String]) -> Result<bool> {
    let command = format!(
        "systemctl list-jobs --no-legend --plain {}",
        restarted.join(" ")
    );
    let jobs = remote.run(&command)?.require("asking for systemd's jobs")?;
    let jobs = String::from_utf8_lossy(&jobs.stdout);
    Ok(!restarted.iter().any(|unit| jobs.contains(unit.as_str())))
}

/// Starts the units; of those in `affected`, the ones that run are restarted.
fn start(
    remote: &mut dyn Remote,
    affected: &[String],
    units: &[&str],
    units_unchanged: bool,
    before: &str,
) -> Result<Vec<String>> {
    // systemd finds new unit files by itself; reading changed ones again costs a second under
    // emulation, so it is done only when systemd says that it is needed.
    let enable = if units_unchanged {
        format!(
            "systemctl is-enabled --quiet {TARGET} || systemctl enable --quiet --no-reload {TARGET}"
        )
    } else {
        format!(
            "systemctl enable --quiet --no-reload {TARGET}\n\
             if systemctl show --property=NeedDaemonReload --value {} | grep -q yes; then \
             systemctl daemon-reload; fi",
            units.join(" ")
        )
    };
    let restart = if affected.is_empty() {
        String::new()
    } else {
        format!(
            "running=$(systemctl list-units --state=active,activating --plain --no-legend {units} | cut -d' ' -f1)\n\
             [ -z \"$running\" ] || systemctl restart --no-block $running\n\
             printf '%s\\n' $running\n",
            units = affected.join(" ")
        )
    };
    let script = format!(
        "set -eu\n{enable}\n{before}\n\
         ln -sf {COMPONENTS_DIR}/bin/* /usr/local/bin/\n{restart}\
         systemctl start --no-block {FIRST_TARGET}\n"
    );
    let _span = trace::span("start the units");
    let output = remote.run(&script)?;
    if output.status != 0 {
        return Err(
            Error::unhealthy("cannot start the Kubernetes units in the node")
                .with_detail("the node says", String::from_utf8_lossy(&output.stderr))
                .with_hint("kubby logs shows the journals of the components"),
        );
    }
    // Where none of them runs there is one line, and it is empty.
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::provision::Unit;
    use crate::remote::{NodeFile, Output};
    use std::time::Duration;

    /// A node in some state that records its commands.
    #[derive(Default)]
    struct Node {
        /// The answer to the comparison of files.
        state: Vec<u8>,
        /// The status of its commands.
        status: i32,
        /// None of its units runs.
        idle: bool,
        commands: Vec<String>,
        pushed: Vec<String>,
    }

    impl Remote for Node {
        fn exec(&mut self, command: &str, stdin: &[u8], _: Option<Duration>) -> Result<Output> {
            // The comparison is the one command that brings its list of files along.
            if !stdin.is_empty() {
                return Ok(Output {
                    status: 0,
                    stdout: self.state.clone(),
                    stderr: vec![],
                });
            }
            self.commands.push(command.to_owned());
            let stderr = b"Unit kubby.target not found.".to_vec();
            let running: &[u8] = if self.idle { b"\n" } else { b"etcd.service\n" };
            let stdout = running.to_vec();
            Ok(Output {
                status: self.status,
                stdout,
                stderr,
            })
        }

        fn push(&mut self, files: &[NodeFile]) -> Result<()> {
            self.pushed.extend(files.iter().map(|f| f.path.clone()));
            Ok(())
        }
    }

    fn wanted() -> Wanted {
        let unit = |name: &str, reads: &str| Unit::service(name, "", &[]).reads([reads]);
        let units = vec![unit("etcd", "/etc/a"), unit("kubelet", "/etc/b")];
        Wanted {
            files: vec![NodeFile::new("/etc/a", 0o644, "a")],
            units,
            ..Wanted::default()
        }
    }

    #[test]
    fn only_units_that_read_what_changed_are_restarted() {
        let mut node = Node::default();
        let applied = apply(&mut node, &wanted()).unwrap();
        assert_eq!(node.pushed, ["/etc/a"]);
        assert_eq!(applied.restarted, ["etcd.service"]);
        let script = node.commands.join("\n");
        assert!(script.contains("--no-legend etcd.service |"), "{script}");
        assert!(
            script.contains("systemctl start --no-block kubby-first.target\n"),
            "{script}"
        );
    }

    #[test]
    fn where_nothing_runs_nothing_is_restarted() {
        let mut node = Node {
            idle: true,
            ..Node::default()
        };
        let applied = apply(&mut node, &wanted()).unwrap();
        assert_eq!(applied.restarted, Vec::<String>::new());
    }

    #[test]
    fn restarts_are_through_when_no_job_is_left() {
        // It answers with `etcd.service` to every command.
        let mut node = Node::default();
        assert!(
            !settled(
                &mut node,
                &["kubelet.service".into(), "etcd.service".into()]
            )
            .unwrap()
        );
        assert!(settled(&mut node, &["kubelet.service".into()]).unwrap());
        let command = &node.commands[0];
        assert!(
            command.ends_with(" kubelet.service etcd.service"),
            "{command}"
        );
    }

    #[test]
    fn an_optional_file_without_content_need_not_be_there() {
        let mut node = Node::default();
        let mut wanted = wanted();
        wanted.files.push(NodeFile::new("/etc/none", 0o600, ""));
        wanted.files.push(NodeFile::new("/etc/mark", 0o600, ""));
        wanted.optional.push("/etc/none");
        apply(&mut node, &wanted).unwrap();
        assert_eq!(node.pushed, ["/etc/a", "/etc/mark"]);
        // Once there was something in it, it has to be emptied.
        node.pushed.clear();
        node.state = b"8180 /etc/none\0".to_vec();
        apply(&mut node, &wanted).unwrap();
        assert_eq!(node.pushed, ["/etc/a", "/etc/none", "/etc/mark"]);
    }

    #[test]
    fn an_action_is_for_its_file() {
        let action = |path| crate::provision::wanted::Action::new(path, "reload it");
        for (path, done) in [("/etc/a", true), ("/etc/other", false)] {
            let mut node = Node::default();
            let mut wanted = wanted();
            wanted.actions.extend([action(path), action(path)]);
            apply(&mut node, &wanted).unwrap();
            let script = node.commands.join("\n");
            assert_eq!(script.contains("\nreload it\n"), done, "{script}");
            assert_eq!(script.matches("reload it").count(), usize::from(done));
        }
    }

    #[test]
    fn a_node_as_it_should_be_is_left_alone() {
        // SHA-256 of `a`, and the mode of a regular file with 0644.
        let sum = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        let state = format!("81a4 /etc/a\0{sum}  /etc/a\0").into_bytes();
        let mut node = Node {
            state,
            ..Node::default()
        };
        let applied = apply(&mut node, &wanted()).unwrap();
        assert!(applied.changed.is_empty() && node.pushed.is_empty());
        let script = node.commands.join("\n");
        assert!(
            script.contains("is-enabled") && !script.contains("restart"),
            "{script}"
        );
    }

    #[test]
    fn a_node_that_refuses_is_reported_with_its_words() {
        let mut node = Node {
            status: 1,
            ..Node::default()
        };
        let e = apply(&mut node, &wanted()).unwrap_err();
        assert_eq!(e.kind(), Kind::Unhealthy);
        assert!(e.details()[0].1.contains("not found"));
    }

    #[test]
    fn a_node_without_the_runtime_is_left_alone() {
        let mut node = Node {
            status: OLD_NODE,
            ..Node::default()
        };
        let e = apply(&mut node, &wanted()).unwrap_err();
        assert_eq!(e.kind(), Kind::State);
        assert!(node.pushed.is_empty());
        let script = &node.commands[0];
        assert!(script.contains("for program in /opt/kubby/bin/containerd /usr/bin/"));
    }
}
