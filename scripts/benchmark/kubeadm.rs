//! The yardstick: `kubeadm init` in the same machine, of the same programs, as static pods.
//! What kind and minikube run is this.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kubby::testing::addon;
use kubby::testing::api::ApiClient;
use kubby::testing::error::{Error, Kind, Result, ResultExt};
use kubby::testing::remote::{Remote, Ssh};
use kubby::testing::tool::Tool;
use serde_json::json;

use crate::app::go_build;
use crate::archive::{Archive, Layer};
use crate::machine::{Machine, Payload};
use crate::observe::{self, Prober};
use crate::process;
use crate::sample::{Sample, Unit};
use crate::site::Site;
use crate::starts::START;

const REGISTRY: &str = "registry.k8s.io";
/// The programs that become images of Kubernetes' release.
const PROGRAMS: [&str; 4] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
];
/// Where programs are in the images, found there by their names.
const PATH: &str = "/k8s:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Images of the component volume that are taken as they are.
const AS_THEY_ARE: [&str; 2] = ["coredns", "pause"];

/// Programs of the runtime in the component volume.
const RUNTIME: [&str; 3] = ["containerd", "containerd-shim-runc-v2", "cni"];

const FILES: [(&str, &str); 6] = [
    ("prepare.sh", include_str!("kubeadm/prepare.sh")),
    ("containerd.toml", include_str!("kubeadm/containerd.toml")),
    (
        "containerd.service",
        include_str!("kubeadm/containerd.service"),
    ),
    ("kubelet.service", include_str!("kubeadm/kubelet.service")),
    (
        "10-bridge.conflist",
        include_str!("kubeadm/10-bridge.conflist"),
    ),
    ("kubeadm.yaml", include_str!("kubeadm/kubeadm.yaml")),
];
const KUBE_PROXY: &str = include_str!("kubeadm/kube-proxy.yaml");

/// Limits with hardware virtualisation.
const PREPARE: Duration = Duration::from_secs(60);
const INIT: Duration = Duration::from_secs(120);

/// The stages after `kubeadm init`; before it is done there are no credentials to ask with.
const STAGES: [observe::Stage; 4] = [
    observe::NODE_READY,
    observe::DNS_SERVICE,
    observe::APP_RUNNING,
    observe::DNS_ANSWERS,
];

/// What kubeadm runs from.
pub struct Yardstick<'a> {
    site: &'a Site,
    volume: PathBuf,
    /// kube-proxy as an add-on's folder, applied as the application is.
    proxy: PathBuf,
}

impl<'a> Yardstick<'a> {
    /// Builds kubeadm and makes its images of the programs of the component volume; not measured.
    ///
    /// # Errors
    /// Where there is no Go, its modules cannot be had, or the disk is full.
    pub fn prepare(site: &'a Site) -> Result<Self> {
        let stage = site.root().join("yardstick");
        let unpacked = site.root().join("components");
        make_dirs(&[&stage.join("bin"), &stage.join("images")])?;
        Tool::new("fsck.erofs", Kind::Assets)
            .arg(format!("--extract={}", unpacked.display()))
            .arg(&site.components.volume)
            .deadline(Duration::from_secs(300))
            .run(None)?;
        let version = site.components.version.to_string();
        let stamp = format!("-X k8s.io/component-base/version.gitVersion={version}");
        go_build("kubeadm", &stage.join("bin/kubeadm"), &stamp)?;
        for name in RUNTIME.iter().chain(&["kubelet"]) {
            copy(
                &unpacked.join("bin").join(name),
                &stage.join("bin").join(name),
            )?;
        }
        images(site, &unpacked, &stage.join("images"))?;
        for (name, text) in FILES {
            write(&stage.join(name), &filled(site, text))?;
        }
        let proxy = site.root().join("proxy");
        make_dirs(&[&proxy])?;
        write(&proxy.join("kube-proxy.yaml"), &filled(site, KUBE_PROXY))?;
        let volume = site.root().join("yardstick.erofs");
        Tool::new("mkfs.erofs", Kind::Assets)
            .args(["--quiet", "-T0", "--all-root", "-x-1"])
            .arg(&volume)
            .arg(&stage)
            .deadline(Duration::from_secs(300))
            .run(None)?;
        for folder in [&stage, &unpacked] {
            kubby::testing::fsutil::remove_all(folder)?;
        }
        Ok(Yardstick {
            site,
            volume,
            proxy,
        })
    }

    /// From power-on to an application that DNS answers for.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn measure(&self, round: u32) -> Result<Sample> {
        let _alone = self.site.alone()?;
        let before = process::available_memory();
        let payload = Payload::File("yardstick", &self.volume);
        let mut machine = Machine::boot(self.site, "kubeadm", &payload)?;
        let mut sample = Sample::new("kubeadm", round);
        sample.stage("SSH answers", machine.boot.as_secs_f64());
        if let Err(e) = self.cluster(&mut machine, &mut sample) {
            return Err(e.with_detail("the console's last lines", machine.console()));
        }
        sample.total();
        process::start_cost(&machine.domain, &mut sample);
        process::idle_cost(&machine.domain, before, &mut sample)?;
        if let Some(disk) = self.site.disk(&machine.domain) {
            sample.quantity("disk of the node", Unit::Mebibytes, disk);
        }
        Ok(sample)
    }

    fn cluster(&self, machine: &mut Machine<'_>, sample: &mut Sample) -> Result<()> {
        let (site, on, port) = (self.site, machine.on, machine.api_port);
        let ssh = &mut machine.ssh;
        let mount = "mkdir -p /opt/yardstick && mount -o ro /dev/disk/by-id/virtio-components \
             /opt/yardstick && sh /opt/yardstick/prepare.sh";
        must(ssh, mount, "preparing the node", site.limit(PREPARE))?;
        sample.stage("images imported", on.elapsed().as_secs_f64());
        let init = "kubeadm init --config /opt/yardstick/kubeadm.yaml \
                    --ignore-preflight-errors=all 2>&1";
        must(ssh, init, "kubeadm init", site.limit(INIT))?;
        sample.stage("kubeadm init done", on.elapsed().as_secs_f64());
        let config = ssh
            .run("cat /etc/kubernetes/admin.conf")?
            .require("reading admin.conf")?
            .text();
        let api = client(&config, port)?;
        // One replica, as minikube does and kubby has.
        let one = json!({"spec": {"replicas": 1}});
        api.require_patch(
            "/apis/apps/v1/namespaces/kube-system/deployments/coredns",
            &one,
        )?;
        let deadline = Instant::now() + site.limit(START);
        for folder in [&self.proxy, &site.app] {
            let addon = addon::read(folder, &site.components.kubectl)?.addon;
            addon::apply(&api, &addon, false, deadline)?;
        }
        sample.stage("application applied", on.elapsed().as_secs_f64());
        for (name, seconds) in Prober::of(api).wait(&STAGES, on, deadline)? {
            sample.stage(name, seconds);
        }
        Ok(())
    }
}

/// Runs a command that has to succeed; its output explains where it does not.
fn must(ssh: &mut Ssh, command: &str, what: &str, limit: Duration) -> Result<()> {
    let output = ssh.exec(command, &[], Some(limit))?;
    if output.success() {
        return Ok(());
    }
    let text = format!(
        "{}\n{}",
        output.text(),
        String::from_utf8_lossy(&output.stderr)
    );
    let message = format!("{what} failed in the node with status {}", output.status);
    Err(Error::new(Kind::Unhealthy, message).with_detail("its output", text))
}

/// The API by what kubeadm wrote for its administrator.
fn client(config: &str, port: u16) -> Result<ApiClient> {
    let pem = |name: &str| -> Result<String> {
        let prefix = format!("{name}: ");
        let line = config
            .lines()
            .find_map(|line| line.trim().strip_prefix(&prefix))
            .unwrap_or_default();
        let fail = || format!("kubeadm's admin.conf has no {name}");
        let bytes = STANDARD.decode(line).context(Kind::Unhealthy, fail)?;
        String::from_utf8(bytes).context(Kind::Unhealthy, fail)
    };
    ApiClient::new(
        port,
        &pem("certificate-authority-data")?,
        &pem("client-certificate-data")?,
        &pem("client-key-data")?,
    )
}

/// Puts the versions into a file.
fn filled(site: &Site, text: &str) -> String {
    text.replace("KUBERNETES", &site.components.version.to_string())
        .replace("vCOREDNS", &format!("v{}", site.components.coredns_version))
        .replace("ETCD", &site.components.etcd_version)
}

/// The images that kubeadm wants, under the names that it wants them by.
fn images(site: &Site, unpacked: &Path, out: &Path) -> Result<()> {
    let bin = unpacked.join("bin");
    let mut kube = Archive::default();
    for program in PROGRAMS {
        let name = format!("{REGISTRY}/{program}:{}", site.components.version);
        kube.image(&name, &layers(&bin, program)?, &[], PATH)?;
    }
    kube.write(&out.join("kube.tar"))?;
    let mut etcd = Archive::default();
    let name = format!("{REGISTRY}/etcd:{}", site.components.etcd_version);
    etcd.image(&name, &layers(&bin, "etcd")?, &[], PATH)?;
    etcd.write(&out.join("etcd.tar"))?;
    for name in AS_THEY_ARE {
        let archive = format!("{name}.tar");
        copy(&unpacked.join("images").join(&archive), &out.join(&archive))?;
    }
    copy(&site.app.join("images/app.tar"), &out.join("app.tar"))
}

/// A program's layers: the file itself, which several programs may share, then its name.
fn layers(bin: &Path, program: &str) -> Result<Vec<Layer>> {
    let path = bin.join(program);
    let file = path
        .canonicalize()
        .context(Kind::Assets, || format!("there is no {}", path.display()))?;
    let real = file.file_name().unwrap_or_default().to_string_lossy();
    let mut layers = vec![Layer::of(&[(&format!("k8s/{real}"), &file)], &[])?];
    // Debian's programs are found where they are in the node.
    let mut links = vec![
        ("bin".to_owned(), "usr/bin".to_owned()),
        ("lib".to_owned(), "usr/lib".to_owned()),
        ("lib64".to_owned(), "usr/lib64".to_owned()),
        ("sbin".to_owned(), "usr/sbin".to_owned()),
    ];
    if real != program {
        links.push((format!("k8s/{program}"), real.into_owned()));
    }
    let links: Vec<(&str, &str)> = links
        .iter()
        .map(|(path, target)| (path.as_str(), target.as_str()))
        .collect();
    layers.push(Layer::of(&[], &links)?);
    Ok(layers)
}

fn make_dirs(dirs: &[&Path]) -> Result<()> {
    dirs.iter().try_for_each(|dir| {
        std::fs::create_dir_all(dir)
            .context(Kind::Internal, || format!("cannot make {}", dir.display()))
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).context(Kind::Internal, || {
        format!("cannot write {}", path.display())
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .map(drop)
        .context(Kind::Assets, || format!("cannot copy {}", from.display()))
}
