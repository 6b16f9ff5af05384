//! The image store of a node: containerd, as Kubernetes sees it.
//!
//! What Kubernetes has a notion of goes through the runtime interface (`crictl`), so that it is
//! what the kubelet would see and do; names and archives, of which it has none, through `ctr`.

mod list;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Reference;
use list::{parse_images, parse_running};

pub use list::{Meant, NodeImage, Running, find};

use crate::cluster::Access;
use crate::error::{Error, Kind, Result};
use crate::provision::{COMPONENTS_DIR, CONTAINERD_SOCKET, SEEDED_IMAGES};
use crate::remote::{Output, Process, Remote, Ssh, Target, quote};
use crate::wait;

/// `ctr` in the namespace of Kubernetes.
const CTR: &str = "ctr --namespace k8s.io";
/// How long the SSH connection may take.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a single question may take, with hardware virtualisation.
const QUESTION: Duration = Duration::from_secs(30);
/// How long a pull may take.
const PULL: Duration = Duration::from_secs(3600);

/// A connection to the store.
pub struct Node {
    ssh: Ssh,
    target: Target,
    question: Duration,
    flag: String,
}

impl Node {
    /// Connects to the node of a cluster.
    ///
    /// # Errors
    /// [`Kind::NodeUnreachable`] when it does not answer.
    pub fn connect(access: &Access) -> Result<Node> {
        let target = access.target()?;
        let flag = access.profile.name.flag();
        let ssh = Ssh::connect(&target, CONNECT).map_err(|e| {
            e.with_hint(format!(
                "kubby status{flag} tells what runs; kubby start{flag} brings it back"
            ))
        })?;
        Ok(Node {
            ssh,
            target,
            question: access.deadline(QUESTION),
            flag,
        })
    }

    /// Where the node listens.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// ` -p NAME` for hints, empty for the default profile.
    pub fn flag(&self) -> &str {
        &self.flag
    }

    /// A command that reads or writes an archive, see [`Process`].
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn stream(&mut self, ctr_arguments: &str) -> Result<Process> {
        Process::start(&mut self.ssh, &format!("exec {CTR} {ctr_arguments}"))
    }

    /// Ends a command of [`Node::stream`], see [`Process::finish`].
    ///
    /// # Errors
    /// As [`Process::finish`].
    pub fn finish(&mut self, process: Process) -> Result<Output> {
        process.finish(&mut self.ssh)
    }

    /// All images, by their first names.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when containerd does not answer.
    pub fn images(&mut self) -> Result<Vec<NodeImage>> {
        let text = self.crictl("images --output json", "listing the node's images")?;
        parse_images(&text)
    }

    /// The containers that run.
    ///
    /// # Errors
    /// As [`Node::images`].
    pub fn running(&mut self) -> Result<Vec<Running>> {
        let text = self.crictl("ps --output json", "listing the node's containers")?;
        parse_running(&text)
    }

    /// The digests of blobs that need not be sent again and the names of all images. A node that
    /// starts for the first time says what it began with, which it need not ask containerd for; one
    /// that is still about to run containerd is waited for.
    ///
    /// # Errors
    /// As [`Node::images`].
    pub fn contents(&mut self) -> Result<(HashSet<String>, HashSet<String>)> {
        let script = format!(
            "systemctl start containerd.service && \
             if [ -e {SEEDED_IMAGES} ]; then echo; echo; cat {SEEDED_IMAGES}; \
             else {CTR} content ls --quiet && echo && {CTR} images ls --quiet; fi"
        );
        let output = self.ssh.exec(&script, &[], Some(self.question))?;
        let text = output.require("listing containerd's content")?.text();
        let (blobs, names) = text.split_once("\n\n").unwrap_or((&text, ""));
        let set = |text: &str| text.lines().map(str::to_owned).collect();
        Ok((set(blobs), set(names)))
    }

    /// Waits until Kubernetes sees these names on an image of this id: containerd tells its
    /// runtime interface of new images a moment later.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when it does not in time.
    pub fn await_names(&mut self, id: &str, names: &[Reference]) -> Result<()> {
        let end = Instant::now() + self.question;
        let mut missing = None;
        let seen = wait::poll(end, Duration::from_millis(200), || {
            let images = self.images()?;
            let has = |name: &Reference| {
                let name = name.to_string();
                images
                    .iter()
                    .any(|i| i.names.contains(&name) && (id.is_empty() || i.id == id))
            };
            missing = names.iter().find(|name| !has(name));
            Ok(missing.is_none().then_some(()))
        })?;
        match missing {
            Some(missing) if seen.is_none() => Err(Error::new(
                Kind::Unhealthy,
                format!("containerd has {missing}, but Kubernetes does not see it"),
            )
            .with_hint(format!(
                "kubby ssh{} -- journalctl -b -u containerd",
                self.flag
            ))),
            _ => Ok(()),
        }
    }

    /// Gives an image a further name; a name that another image has moves.
    ///
    /// # Errors
    /// As [`Node::images`].
    pub fn tag(&mut self, from: &str, to: &Reference) -> Result<()> {
        let command = format!(
            "{CTR} images tag --force {} {}",
            quote(from),
            quote(&to.to_string())
        );
        let output = self.ssh.exec(&command, &[], Some(self.question))?;
        output.require("naming the image").map(drop)
    }

    /// Takes names away; an image without any is removed by containerd.
    ///
    /// # Errors
    /// As [`Node::images`].
    pub fn untag(&mut self, names: &[String]) -> Result<()> {
        let names: Vec<String> = names.iter().map(|n| quote(n)).collect();
        let command = format!("{CTR} images rm --sync {}", names.join(" "));
        let output = self.ssh.exec(&command, &[], Some(self.question))?;
        output.require("removing the name").map(drop)
    }

    /// Removes an image with all its names.
    ///
    /// # Errors
    /// As [`Node::images`].
    pub fn remove(&mut self, id: &str) -> Result<()> {
        self.crictl(&format!("rmi {}", quote(id)), "removing the image")
            .map(drop)
    }

    /// Lets the node pull an image, as the kubelet does it.
    ///
    /// # Errors
    /// [`Kind::Assets`] with containerd's reason.
    pub fn pull(&mut self, name: &Reference) -> Result<()> {
        let command = crictl(&format!("pull {}", quote(&name.to_string())));
        let output = self.ssh.exec(&command, &[], Some(PULL))?;
        if output.success() {
            return Ok(());
        }
        Err(pull_failed(name, &output, &self.flag))
    }

    fn crictl(&mut self, arguments: &str, what: &str) -> Result<String> {
        let output = self
            .ssh
            .exec(&crictl(arguments), &[], Some(self.question))?;
        if output.status == 127 {
            return Err(Error::new(Kind::State, "the node has no crictl")
                .with_hint("the cluster is of an older kubby: delete it and start it anew"));
        }
        Ok(output.require(what)?.text())
    }
}

fn crictl(arguments: &str) -> String {
    format!(
        "{COMPONENTS_DIR}/bin/crictl --runtime-endpoint {CONTAINERD_SOCKET} --timeout 60s {arguments}"
    )
}

fn pull_failed(name: &Reference, output: &Output, flag: &str) -> Error {
    let text = String::from_utf8_lossy(&output.stderr);
    // crictl logs the same reason twice: as a structured line, then as its own last word.
    let reason = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .map_or("", |line| line.split_once("msg=").map_or(line, |(_, m)| m))
        .trim_matches('"');
    Error::new(Kind::Assets, format!("the node cannot pull {name}"))
        .with_detail("containerd says", reason.replace("\\\"", "\""))
        .with_hint(format!(
            "bring it from this host: kubby image load{flag} {}",
            name.familiar()
        ))
        .with_hint(format!(
            "or name a mirror of {0} in the node: /etc/containerd/certs.d/{0}/hosts.toml, \
             see docs/images.md",
            name.domain()
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_pull_shows_the_reason_once() {
        let output = Output {
            status: 1,
            stdout: vec![],
            stderr: b"E1122 remote_image.go:180] \"PullImage from image service failed\" err=...\n\
                time=\"t\" level=fatal msg=\"pulling image: failed to resolve \\\"x\\\": no such host\"\n"
                .to_vec(),
        };
        let e = pull_failed(&"x:1".parse().unwrap(), &output, "");
        assert_eq!(
            e.details()[0].1,
            "pulling image: failed to resolve \"x\": no such host"
        );
        assert!(e.hints()[0].ends_with("kubby image load x:1"));
    }
}
