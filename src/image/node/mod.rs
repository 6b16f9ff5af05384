//! The image store of a node: containerd, as Kubernetes sees it.
//!
//! Operations that Kubernetes knows use its runtime interface (`crictl`), so that they see and do
//! what the kubelet would; names and archives, which it does not know, use `ctr`.

mod list;

use std::collections::HashSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::reference::Reference;
use list::{parse_images, parse_running};

pub(crate) use list::{NodeImage, Running, find};

use crate::cluster::node::Node;
use crate::error::{Error, Result};
use crate::provision::{COMPONENTS_DIR, CONTAINERD_SOCKET, SEEDED_IMAGES};
use crate::remote::{Output, Process, Remote, Ssh, Target, quote};
use crate::wait;

/// `ctr` in the namespace of Kubernetes.
const CTR: &str = "/opt/kubby/bin/ctr --namespace k8s.io";
/// The names of images that came from this host and from no registry, one a line.
const LOADED: &str = "/var/lib/kubby/loaded-images";
/// The time limit of the SSH connection.
const CONNECT: Duration = Duration::from_secs(30);
/// The time limit of a single request, with hardware virtualisation.
const REQUEST: Duration = Duration::from_secs(30);
/// The time limit of a pull.
const PULL: Duration = Duration::from_secs(3600);

/// An SSH session with a node's container images.
pub(crate) struct ImageStore {
    ssh: Ssh,
    /// The node's SSH address and keys.
    pub target: Target,
    /// The time limit of a request to this node.
    pub limit: Duration,
    /// ` -p NAME` for hints, empty for the default profile.
    pub flag: String,
}

/// Returns the path of BuildKit's client among the cluster's components, beside kubectl.
///
/// # Errors
/// [`crate::error::Kind::Assets`] when it does not exist.
pub(super) fn buildctl(node: &Node) -> Result<PathBuf> {
    let path = node.programs.join("buildctl");
    if path.is_file() {
        return Ok(path);
    }
    let (message, flag) = (format!("there is no {}", path.display()), node.flag());
    Err(Error::assets(message).with_hint(format!(
        "kubby start{flag} gets it again; recreate a cluster of an older kubby: \
         kubby delete{flag} && kubby start{flag}"
    )))
}

impl ImageStore {
    /// Connects to a node.
    ///
    /// # Errors
    /// [`crate::error::Kind::NodeUnreachable`] when it does not answer.
    pub(crate) fn connect(node: &Node) -> Result<ImageStore> {
        let target = node.target.clone();
        let flag = node.flag();
        let ssh = Ssh::connect(&target, CONNECT).map_err(|e| {
            e.with_hint(format!(
                "kubby status{flag} shows what runs; kubby start{flag} starts the rest"
            ))
        })?;
        Ok(ImageStore {
            ssh,
            target,
            limit: node.deadline(REQUEST),
            flag,
        })
    }

    /// Starts a `ctr` command that reads or writes an archive, see [`Process`].
    ///
    /// # Errors
    /// As [`Process::start`].
    pub(crate) fn stream(&mut self, ctr_arguments: &str) -> Result<Process> {
        Process::start(&mut self.ssh, &format!("exec {CTR} {ctr_arguments}"))
    }

    /// Ends a command of [`ImageStore::stream`], see [`Process::finish`].
    ///
    /// # Errors
    /// As [`Process::finish`].
    pub(crate) fn finish(&mut self, process: Process) -> Result<Output> {
        process.finish(&mut self.ssh)
    }

    /// Returns all images, sorted by their first names.
    ///
    /// # Errors
    /// [`crate::error::Kind::Unhealthy`] when containerd does not answer.
    pub(crate) fn images(&mut self) -> Result<Vec<NodeImage>> {
        let text = self.crictl("images --output json", "listing the node's images")?;
        parse_images(&text)
    }

    /// Returns the running containers.
    ///
    /// # Errors
    /// As [`ImageStore::images`].
    pub(crate) fn running(&mut self) -> Result<Vec<Running>> {
        let text = self.crictl("ps --output json", "listing the node's containers")?;
        parse_running(&text)
    }

    /// Returns the digests of blobs that need not be sent again and the names of all images. A node
    /// that starts for the first time has a list of its seeded images, so that containerd need not
    /// be asked. Waits for a node that is still starting containerd.
    ///
    /// # Errors
    /// As [`ImageStore::images`].
    pub(crate) fn contents(&mut self) -> Result<(HashSet<String>, HashSet<String>)> {
        let script = format!(
            "systemctl start containerd.service && \
             if [ -e {SEEDED_IMAGES} ]; then echo; echo; cat {SEEDED_IMAGES}; \
             else {CTR} content ls --quiet && echo && {CTR} images ls --quiet; fi"
        );
        let text = self.run(&script, "listing containerd's content")?;
        let (blobs, names) = text.split_once("\n\n").unwrap_or((&text, ""));
        let set = |text: &str| text.lines().map(str::to_owned).collect();
        Ok((set(blobs), set(names)))
    }

    /// Waits until Kubernetes sees these names on an image of this id: containerd reports new images
    /// to its runtime interface a moment later.
    ///
    /// # Errors
    /// [`crate::error::Kind::Unhealthy`] when it does not see them in time.
    pub(crate) fn await_names(&mut self, id: &str, names: &[Reference]) -> Result<()> {
        let end = Instant::now() + self.limit;
        let mut missing = None;
        let seen = wait::poll(end, Duration::from_millis(200), || {
            let images = self.images()?;
            let has = |name: &Reference| {
                let name = name.to_string();
                let mut same = images.iter().filter(|i| id.is_empty() || i.id == id);
                same.any(|i| i.names.contains(&name))
            };
            missing = names.iter().find(|name| !has(name));
            Ok(missing.is_none().then_some(()))
        })?;
        match (seen, missing) {
            (None, Some(name)) => {
                let hint = format!("kubby ssh{} -- journalctl -b -u containerd", self.flag);
                let message = format!("containerd has {name}, but Kubernetes does not see it");
                Err(Error::unhealthy(message).with_hint(hint))
            }
            _ => Ok(()),
        }
    }

    /// Gives an image a further name; a name that another image has moves.
    ///
    /// # Errors
    /// As [`ImageStore::images`].
    pub(crate) fn tag(&mut self, from: &str, to: &Reference) -> Result<()> {
        let (from, to) = (quote(from), quote(&to.to_string()));
        let command = format!("{CTR} images tag --force {from} {to}");
        self.run(&command, "naming the image").map(drop)
    }

    /// Removes names; containerd removes an image without any.
    ///
    /// # Errors
    /// As [`ImageStore::images`].
    pub(crate) fn untag(&mut self, names: &[String]) -> Result<()> {
        let names: Vec<String> = names.iter().map(|n| quote(n)).collect();
        let command = format!("{CTR} images rm --sync {}", names.join(" "));
        self.run(&command, "removing the name").map(drop)
    }

    /// Removes an image with all its names.
    ///
    /// # Errors
    /// As [`ImageStore::images`].
    pub(crate) fn remove(&mut self, id: &str) -> Result<()> {
        let arguments = format!("rmi {}", quote(id));
        self.crictl(&arguments, "removing the image").map(drop)
    }

    /// Pulls an image on the node, as the kubelet does it.
    ///
    /// # Errors
    /// [`crate::error::Kind::Assets`] with containerd's reason.
    pub(crate) fn pull(&mut self, name: &Reference) -> Result<()> {
        let command = crictl(&format!("pull {}", quote(&name.to_string())));
        let output = self.ssh.exec(&command, &[], Some(PULL))?;
        match output.success() {
            true => Ok(()),
            false => Err(pull_failed(name, &output, &self.flag)),
        }
    }

    /// Records that these images came from this host, and writes them to the disk: containerd unpacks layers
    /// without that, and a power cut would leave empty files in images that look whole.
    ///
    /// # Errors
    /// As [`ImageStore::images`].
    pub(crate) fn record<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a Reference>,
    ) -> Result<()> {
        let command = format!("cat >> {LOADED} && sync --file-system /var/lib/containerd");
        self.run_with_lines(&command, names, "writing the images to the disk")
    }

    /// Forgets names that [`ImageStore::record`] has recorded.
    ///
    /// # Errors
    /// As [`ImageStore::images`].
    pub(crate) fn forget<'a>(&mut self, names: impl IntoIterator<Item = &'a String>) -> Result<()> {
        let command = format!(
            "[ -e {LOADED} ] || exit 0\n\
             grep -vxFf /dev/stdin {LOADED} > {LOADED}.new || [ $? = 1 ]\nmv {LOADED}.new {LOADED}"
        );
        self.run_with_lines(&command, names, "forgetting the names of images")
    }

    fn run_with_lines(
        &mut self,
        command: &str,
        lines: impl IntoIterator<Item = impl Display>,
        what: &str,
    ) -> Result<()> {
        let lines: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
        let output = self.ssh.exec(command, lines.as_bytes(), Some(self.limit))?;
        output.require(what).map(drop)
    }

    fn run(&mut self, command: &str, what: &str) -> Result<String> {
        let output = self.ssh.exec(command, &[], Some(self.limit))?;
        Ok(output.require(what)?.text())
    }

    fn crictl(&mut self, arguments: &str, what: &str) -> Result<String> {
        let command = crictl(arguments);
        let output = self.ssh.exec(&command, &[], Some(self.limit))?;
        if output.status == 127 {
            let flag = &self.flag;
            return Err(Error::state("the node has no crictl").with_hint(format!(
                "recreate the cluster, which is of an older kubby: \
                 kubby delete{flag} && kubby start{flag}"
            )));
        }
        Ok(output.require(what)?.text())
    }
}

/// Returns the names that [`ImageStore::record`] has recorded in a node; there may be no such images any more.
///
/// # Errors
/// [`crate::error::Kind::NodeUnreachable`] when SSH fails.
pub(crate) fn recorded(remote: &mut dyn Remote) -> Result<Vec<Reference>> {
    let output = remote.run(&format!("cat {LOADED} 2>/dev/null"))?.text();
    let mut names: Vec<&str> = output.lines().collect();
    names.sort_unstable();
    names.dedup();
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

fn crictl(arguments: &str) -> String {
    format!(
        "{COMPONENTS_DIR}/bin/crictl --runtime-endpoint {CONTAINERD_SOCKET} --timeout 60s {arguments}"
    )
}

/// Returns what a command wrote to standard error.
pub(super) fn errors_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn pull_failed(name: &Reference, output: &Output, flag: &str) -> Error {
    let text = errors_of(output);
    // crictl logs the same reason twice: as a structured line, then as its last line.
    let mut lines = text.lines().rev();
    let last = lines.find(|line| !line.trim().is_empty());
    let reason = last.map_or("", |line| line.split_once("msg=").map_or(line, |(_, m)| m));
    let (familiar, domain) = (name.familiar(), name.domain());
    Error::assets(format!("the node cannot pull {name}"))
        .with_detail(
            "containerd says",
            reason.trim_matches('"').replace("\\\"", "\""),
        )
        .with_hint(format!(
            "load it from this host: kubby image load{flag} {familiar}"
        ))
        .with_hint(format!(
            "or name a mirror of {domain} in the node: /etc/containerd/certs.d/{domain}/hosts.toml, \
             see docs/images.md"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_of_containerd_is_a_component() {
        assert!(CTR.starts_with(&format!("{COMPONENTS_DIR}/bin/ctr ")));
    }

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
