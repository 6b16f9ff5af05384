//! The benchmark's own home, kubeconfig and profiles. They are deleted when the benchmark ends, also after
//! an error.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kubby::testing::assets::components::{self, ComponentSet};
use kubby::testing::assets::download::Limits;
use kubby::testing::assets::node_image::{self, NodeImage};
use kubby::testing::assets::version;
use kubby::testing::error::{Kind, Result, ResultExt};
use kubby::testing::hypervisor::{
    AccelChoice, AccelFacts, Acceleration, HostInfo, Hypervisor, Libvirt, accel, default_uri,
};
use kubby::testing::store::Store;
use kubby::testing::tool::Tool;
use kubby::testing::{interrupt, ui};
use serde_json::{Value, json};

use crate::{app, machine};

const KUBBY: &str = env!("CARGO_BIN_EXE_kubby");

/// Limits with hardware virtualisation, of one command and of deleting everything.
const COMMAND: Duration = Duration::from_secs(180);
const CLEAN_UP: Duration = Duration::from_secs(180);

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Wishes {
    pub cpus: Option<u32>,
    pub memory_mib: Option<u64>,
    pub lock: Option<PathBuf>,
    /// For each `kubby start`.
    pub start_flags: Vec<String>,
}

/// Everything that measurements work with.
pub struct Site {
    root: PathBuf,
    wishes: Wishes,
    pub hypervisor: Libvirt,
    pub host: HostInfo,
    pub acceleration: Acceleration,
    /// Sizes of every node.
    pub cpus: u32,
    pub memory_mib: u64,
    /// The home of machines that are not kubby's clusters.
    pub machines: Store,
    /// The home of the clusters.
    clusters: Store,
    pub image: NodeImage,
    pub components: ComponentSet,
    /// The application as an add-on's folder.
    pub app: PathBuf,
}

impl Site {
    /// Gets everything that is not measured: assets and the application.
    ///
    /// # Errors
    /// Of every class.
    pub fn new(wishes: Wishes) -> Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("kubby-bench-")
            .tempdir()
            .context(Kind::Internal, || "cannot make a temporary folder".into())?
            .keep();
        match Self::within(&root, wishes) {
            Ok(site) => Ok(site),
            Err(e) => {
                let _ = std::fs::remove_dir_all(&root);
                Err(e)
            }
        }
    }

    fn within(root: &Path, wishes: Wishes) -> Result<Self> {
        let user = Store::from_env()?;
        let hypervisor = Libvirt::open(&default_uri(None))?;
        let host = hypervisor.host()?;
        let (acceleration, _) = accel::decide(AccelChoice::Auto, &AccelFacts::gather(&host))?;
        ui::say("getting the node image, Kubernetes and the application (not measured)");
        let progress = ui::progress(ui::Style {
            quiet: false,
            verbose: false,
        });
        let image = node_image::build(user.cache(), false, progress.as_ref())?;
        let request = components::Request {
            version: version::DEFAULT,
            source: components::Source::Auto,
            dir: None,
            binary_mirror: None,
            extras: None,
            cache: user.cache(),
            limits: Limits::default(),
        };
        let components = components::ensure(&request, progress.as_ref())?;
        Ok(Site {
            cpus: wishes.cpus.unwrap_or_else(|| host.cpus.clamp(1, 4)),
            memory_mib: wishes
                .memory_mib
                .unwrap_or_else(|| (host.memory.0 / 2).clamp(2048, 4096)),
            wishes,
            acceleration,
            host,
            hypervisor,
            machines: Store::at(&root.join("machines"), user.cache()),
            clusters: Store::at(&root.join("clusters"), user.cache()),
            image,
            components,
            app: app::make(root)?,
            root: root.to_owned(),
        })
    }

    /// A folder for what is made on the way.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The memory of each node in MiB.
    pub fn memory_mib(&self) -> u64 {
        self.memory_mib
    }

    /// A profile's name, which the name of its domain follows.
    pub fn profile(&self, what: &str) -> String {
        format!("bench{}-{what}", std::process::id())
    }

    pub fn domain(profile: &str) -> String {
        format!("kubby-{profile}")
    }

    pub fn clusters_home(&self) -> PathBuf {
        self.clusters.home().to_owned()
    }

    /// A limit that was chosen with hardware virtualisation in mind.
    pub fn limit(&self, with_kvm: Duration) -> Duration {
        with_kvm * self.acceleration.deadline_factor()
    }

    /// The machine is ours alone while this is held, where the user named a lock.
    ///
    /// # Errors
    /// When the lock's file cannot be made, and on Ctrl-C.
    pub fn alone(&self) -> Result<Option<File>> {
        let Some(path) = &self.wishes.lock else {
            return Ok(None);
        };
        let fail = || format!("cannot lock {}", path.display());
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .context(Kind::Usage, fail)?;
        // Waits in the kernel's queue: who only looks now and then never gets a lock that others
        // queue for. In a thread, so that Ctrl-C ends the wait.
        let (locked, got) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = locked.send(file.lock().map(|()| file));
        });
        loop {
            match got.recv_timeout(Duration::from_millis(50)) {
                Ok(file) => return file.map(Some).context(Kind::Usage, fail),
                Err(_) => interrupt::check()?,
            }
        }
    }

    /// Runs kubby on a profile and returns what it wrote to stdout.
    ///
    /// # Errors
    /// When it fails, with the end of its output, and on Ctrl-C.
    pub fn kubby(&self, profile: &str, args: &[&str]) -> Result<String> {
        Tool::new(KUBBY, Kind::Unhealthy)
            .args(["-p", profile])
            .args(args)
            .env("KUBBY_HOME", self.clusters.home())
            .env("KUBECONFIG", self.root.join("kubeconfig"))
            .env("NO_COLOR", "1")
            .deadline(self.limit(COMMAND))
            .run(None)
    }

    /// `kubby start` with the application, of the size that all nodes have; its own report.
    ///
    /// # Errors
    /// As [`Site::kubby`].
    pub fn start(&self, profile: &str, flags: &[&str]) -> Result<Value> {
        let (cpus, memory) = (self.cpus.to_string(), format!("{}MiB", self.memory_mib));
        let app = self.app.to_string_lossy().into_owned();
        let mut args = vec!["start", "--output", "json", "--addon", &app];
        args.extend(["--cpus", &cpus, "--memory", &memory]);
        args.extend(flags);
        args.extend(self.wishes.start_flags.iter().map(String::as_str));
        let report = self.kubby(profile, &args)?;
        Ok(serde_json::from_str(&report).unwrap_or_default())
    }

    /// Brings a cluster back that is there.
    ///
    /// # Errors
    /// As [`Site::kubby`].
    pub fn start_again(&self, profile: &str) -> Result<Value> {
        let report = self.kubby(profile, &["start", "--output", "json"])?;
        Ok(serde_json::from_str(&report).unwrap_or_default())
    }

    /// Deletes a cluster.
    ///
    /// # Errors
    /// As [`Site::kubby`].
    pub fn delete(&self, profile: &str) -> Result<()> {
        self.kubby(profile, &["delete"]).map(drop)
    }

    /// Whether this kubby has a command, or a flag of one: its help is asked.
    pub fn has(&self, command: &str, flag: Option<&str>) -> bool {
        let help = Command::new(KUBBY)
            .args([command, "--help"])
            .stderr(Stdio::null())
            .output();
        help.is_ok_and(|help| {
            let text = String::from_utf8_lossy(&help.stdout).into_owned();
            help.status.success() && flag.is_none_or(|flag| text.contains(flag))
        })
    }

    /// What the volumes of a node take on disk in MiB; shared ones are not counted.
    pub fn disk(&self, domain: &str) -> Option<f64> {
        let store = [&self.clusters, &self.machines]
            .into_iter()
            .find(|store| self.has_volumes(store, domain))?;
        let volumes = self.hypervisor.list_volumes(&store.pool_name()).ok()?;
        let own = volumes
            .iter()
            .filter(|volume| volume.name.starts_with(&format!("{domain}.")));
        Some(own.map(|volume| volume.allocation).sum::<u64>() as f64 / 1048576.0)
    }

    fn has_volumes(&self, store: &Store, domain: &str) -> bool {
        let pool = store.pool_name();
        // What grew since is known only after a look.
        self.hypervisor.refresh_pool(&pool).is_ok()
            && self.hypervisor.list_volumes(&pool).is_ok_and(|all| {
                all.iter()
                    .any(|v| v.name.starts_with(&format!("{domain}.")))
            })
    }

    /// What this is measured on.
    pub fn facts(&self) -> Value {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned());
        let commit = Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        let commit = commit.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
        json!({
            "cpu": cpu.unwrap_or_else(|| "unknown CPU".into()),
            "cpus": self.host.cpus,
            "memoryMiB": self.host.memory.0,
            "kernel": read("/proc/sys/kernel/osrelease").trim(),
            "acceleration": self.acceleration.name(),
            "qemu": self.host.qemu_version.to_string(),
            "libvirt": self.host.libvirt_version.to_string(),
            "nodeCpus": self.cpus,
            "nodeMemoryMiB": self.memory_mib,
            "nodeImage": self.image.key,
            "components": self.components.key,
            "kubernetes": self.components.version.to_string(),
            "kubby": format!(
                "kubby {} {}",
                env!("CARGO_PKG_VERSION"),
                commit.unwrap_or_default()
            ),
        })
    }

    /// Runs kubby to clean up. Works after Ctrl-C as well, which ends everything else.
    fn last(&self, args: &[&str]) {
        let child = Command::new(KUBBY)
            .args(args)
            .arg("--quiet")
            .env("KUBBY_HOME", self.clusters.home())
            .env("KUBECONFIG", self.root.join("kubeconfig"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A Ctrl-C at the terminal is for the benchmark, not for what cleans up after it.
            .process_group(0)
            .spawn();
        let Ok(mut child) = child else { return };
        let end = Instant::now() + CLEAN_UP;
        while Instant::now() < end {
            match child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(100)),
                _ => return,
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if interrupt::requested() {
            ui::say("cleaning up");
        }
        if self.clusters.home().exists() {
            self.last(&["delete", "--all"]);
            if self.has("template", None) {
                self.last(&["template", "prune", "--all"]);
            }
        }
        machine::clean_up(self);
        let left = self.clusters.home().join("profiles");
        if std::fs::read_dir(&left).is_ok_and(|mut entries| entries.next().is_some()) {
            // The keys to what is left must not go with the folder.
            ui::say(&format!(
                "clusters are left; KUBBY_HOME={} kubby delete --all removes them",
                self.clusters.home().display()
            ));
            return;
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
