//! The image store of a node: containerd, as Kubernetes sees it.
//!
//! What Kubernetes has a notion of goes through the runtime interface (`crictl`), so that it is
//! what the kubelet would see and do; names and archives, of which it has none, through `ctr`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Reference;
use crate::cluster::Access;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::provision::{COMPONENTS_DIR, CONTAINERD_SOCKET};
use crate::remote::{Output, Process, Remote, Ssh, Target, quote};

/// `ctr` in the namespace of Kubernetes.
const CTR: &str = "ctr --namespace k8s.io";
/// How long the SSH connection may take.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a single question may take, with hardware virtualisation.
const QUESTION: Duration = Duration::from_secs(30);
/// How long a pull may take.
const PULL: Duration = Duration::from_secs(3600);
/// How many digits of an id identify an image.
const ID_LEAST: usize = 6;

/// An image in the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeImage {
    /// The digest of its configuration, `sha256:…`.
    pub id: String,
    /// Its names with tags.
    pub names: Vec<String>,
    /// Its names with digests, which images have that came from a registry.
    pub digests: Vec<String>,
    /// Its size in the node's store, in bytes.
    pub size_bytes: u64,
    /// Whether the kubelet never removes it.
    pub pinned: bool,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// `namespace/pod`.
    pub pod: String,
    /// What identifies its image: names, digests, ids.
    pub images: Vec<String>,
}

/// Which image a user means.
#[derive(Debug)]
pub struct Meant<'a> {
    /// The image.
    pub image: &'a NodeImage,
    /// The name that was given; none when it was the id.
    pub name: Option<String>,
}

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
    pub fn stream(&self, ctr_arguments: &str) -> Result<Process> {
        Process::start(&self.target, &format!("exec {CTR} {ctr_arguments}"))
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

    /// The digests of all blobs and the names of all images.
    ///
    /// # Errors
    /// As [`Node::images`].
    pub fn contents(&mut self) -> Result<(HashSet<String>, HashSet<String>)> {
        let script = format!("{CTR} content ls --quiet && echo && {CTR} images ls --quiet");
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
        loop {
            let images = self.images()?;
            let has = |name: &Reference| {
                let name = name.to_string();
                images
                    .iter()
                    .any(|i| i.names.contains(&name) && (id.is_empty() || i.id == id))
            };
            let Some(missing) = names.iter().find(|name| !has(name)) else {
                return Ok(());
            };
            if Instant::now() >= end {
                return Err(Error::new(
                    Kind::Unhealthy,
                    format!("containerd has {missing}, but Kubernetes does not see it"),
                )
                .with_hint(format!(
                    "kubby ssh{} -- journalctl -b -u containerd",
                    self.flag
                )));
            }
            interrupt::sleep(Duration::from_millis(200))?;
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

#[derive(Deserialize)]
struct ImageList {
    #[serde(default)]
    images: Vec<RawImage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawImage {
    id: String,
    #[serde(default)]
    repo_tags: Vec<String>,
    #[serde(default)]
    repo_digests: Vec<String>,
    /// A number in a string, as Protocol Buffers write 64 bits.
    #[serde(default)]
    size: String,
    #[serde(default)]
    pinned: bool,
}

fn parse_images(text: &str) -> Result<Vec<NodeImage>> {
    let list: ImageList = serde_json::from_str(text).map_err(not_understood)?;
    let mut images: Vec<NodeImage> = list
        .images
        .into_iter()
        .map(|raw| NodeImage {
            id: raw.id,
            names: raw.repo_tags,
            digests: raw.repo_digests,
            size_bytes: raw.size.parse().unwrap_or(0),
            pinned: raw.pinned,
        })
        .collect();
    for image in &mut images {
        image.names.sort();
    }
    images.sort_by(|a, b| (&a.names, &a.id).cmp(&(&b.names, &b.id)));
    Ok(images)
}

#[derive(Deserialize)]
struct ContainerList {
    #[serde(default)]
    containers: Vec<RawContainer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    #[serde(default)]
    image: RawSpec,
    #[serde(default)]
    image_ref: String,
    #[serde(default)]
    image_id: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct RawSpec {
    #[serde(default)]
    image: String,
}

fn parse_running(text: &str) -> Result<Vec<Running>> {
    let list: ContainerList = serde_json::from_str(text).map_err(not_understood)?;
    let running = list.containers.into_iter().map(|raw| {
        let label = |name: &str| raw.labels.get(name).map_or("?", String::as_str);
        Running {
            pod: format!(
                "{}/{}",
                label("io.kubernetes.pod.namespace"),
                label("io.kubernetes.pod.name")
            ),
            images: [raw.image.image, raw.image_ref, raw.image_id]
                .into_iter()
                .filter(|i| !i.is_empty())
                .collect(),
        }
    });
    Ok(running.collect())
}

fn not_understood(e: serde_json::Error) -> Error {
    Error::new(Kind::Internal, "cannot read what crictl says").with_source(e)
}

impl NodeImage {
    /// The id's first digits, as people know them from `docker images`.
    pub fn short_id(&self) -> &str {
        let hex = self.id.strip_prefix("sha256:").unwrap_or(&self.id);
        hex.get(..12).unwrap_or(hex)
    }

    /// The pods whose running containers are made from it.
    pub fn users<'a>(&self, running: &'a [Running]) -> Vec<&'a str> {
        let mine = |image: &String| {
            *image == self.id || self.names.contains(image) || self.digests.contains(image)
        };
        let mut pods: Vec<&str> = running
            .iter()
            .filter(|container| container.images.iter().any(mine))
            .map(|container| container.pod.as_str())
            .collect();
        pods.dedup();
        pods
    }
}

/// Finds the image that a name or the beginning of an id means.
///
/// # Errors
/// [`Kind::Usage`] for what cannot be a name, [`Kind::State`] when no image has it, or several.
pub fn find<'a>(images: &'a [NodeImage], text: &str, flag: &str) -> Result<Meant<'a>> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_id = hex.len() >= ID_LEAST && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let name = match text.parse::<Reference>() {
        Ok(name) => Some(name.to_string()),
        Err(_) if is_id => None,
        Err(why) => return Err(Error::new(Kind::Usage, why)),
    };
    if let Some(name) = &name {
        let has = |i: &&NodeImage| i.names.contains(name) || i.digests.contains(name);
        if let Some(image) = images.iter().find(has) {
            return Ok(Meant {
                image,
                name: Some(name.clone()),
            });
        }
    }
    let begins = |i: &&NodeImage| i.id.starts_with(&format!("sha256:{hex}"));
    let mut found = images.iter().filter(|i| is_id && begins(i));
    match (found.next(), found.next()) {
        (Some(image), None) => Ok(Meant { image, name: None }),
        (Some(_), Some(_)) => Err(Error::new(
            Kind::State,
            format!("several images have an id that begins with {hex}"),
        )
        .with_hint(format!("kubby image list{flag} shows what there is"))),
        _ => Err(Error::new(
            Kind::State,
            match name {
                Some(name) => format!("the node has no image named {name}"),
                None => format!("the node has no image with the id {hex}"),
            },
        )
        .with_hint(format!("kubby image list{flag} shows what there is"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGES: &str = r#"{"images":[
        {"id":"sha256:abcdef0123456789","repoTags":["docker.io/library/b:1","docker.io/library/a:1"],
         "repoDigests":[],"size":"123","pinned":false},
        {"id":"sha256:abcdef9999999999","repoTags":["registry.k8s.io/pause:3"],"repoDigests":
         ["registry.k8s.io/pause@sha256:00"],"size":"7","pinned":true}]}"#;

    #[test]
    fn what_crictl_lists_is_understood() {
        let images = parse_images(IMAGES).unwrap();
        assert_eq!(
            images[0].names,
            ["docker.io/library/a:1", "docker.io/library/b:1"]
        );
        assert_eq!((images[0].size_bytes, images[0].pinned), (123, false));
        assert_eq!(images[0].short_id(), "abcdef012345");
        assert!(images[1].pinned);
        assert!(parse_images("{}").unwrap().is_empty());
        assert!(parse_images("no").is_err());
    }

    #[test]
    fn images_are_found_by_name_and_by_id() {
        let images = parse_images(IMAGES).unwrap();
        let id = |text: &str| find(&images, text, "").map(|m| m.image.id.clone());
        assert_eq!(id("a:1").unwrap(), images[0].id);
        assert_eq!(id("docker.io/library/b:1").unwrap(), images[0].id);
        assert_eq!(id("abcdef01").unwrap(), images[0].id);
        assert_eq!(id("sha256:abcdef99").unwrap(), images[1].id);
        assert!(find(&images, "abcdef01", "").unwrap().name.is_none());
        for (text, kind, words) in [
            ("a:2", Kind::State, "no image named docker.io/library/a:2"),
            ("abcdef", Kind::State, "several"),
            ("A b", Kind::Usage, "not an image name"),
        ] {
            let e = find(&images, text, " -p x").unwrap_err();
            assert_eq!(e.kind(), kind, "{text}");
            assert!(e.message().contains(words), "{text}: {e}");
        }
    }

    #[test]
    fn pods_that_run_an_image_are_named_once() {
        let images = parse_images(IMAGES).unwrap();
        let running = parse_running(
            r#"{"containers":[
            {"image":{"image":"sha256:abcdef0123456789"},"imageRef":"x","labels":
             {"io.kubernetes.pod.name":"web","io.kubernetes.pod.namespace":"default"}},
            {"image":{"image":"docker.io/library/a:1"},"labels":
             {"io.kubernetes.pod.name":"web","io.kubernetes.pod.namespace":"default"}}]}"#,
        )
        .unwrap();
        assert_eq!(images[0].users(&running), ["default/web"]);
        assert!(images[1].users(&running).is_empty());
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
