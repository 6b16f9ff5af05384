//! A cluster's life cycle: the steps behind `start`, `status`, `stop` and `delete`.

mod access;
mod addons;
pub(crate) mod context;
pub(crate) mod machine;
pub(crate) mod operations;
pub(crate) mod saved;
pub(crate) mod start;

pub use access::Access;
pub use addons::{
    Row as AddonRow, disable as disable_addons, enable as enable_addons, list as list_addons,
    show as show_addon,
};
pub use operations::certs::{
    Certificate, Renewal, list as certificates, renew as renew_certificates,
};
pub use operations::delete::{delete, purge_cache};
pub use operations::services::{
    Reachable, ServiceRequest, reach, require_running, services, unreach,
};
pub use operations::status::{ComponentState, HostState, KubeconfigState, Status, status};
pub use operations::stop::{StopOptions, stop};
pub use operations::support_bundle::{
    Bundle, check_destination as check_bundle_destination, collect as collect_bundle,
};
pub use operations::throwaway::{Throwaway, sweep};
pub use saved::fork::fork;
pub use saved::snapshots::{
    Snapshot, SnapshotName, delete as delete_snapshot, list as snapshots,
    restore as restore_snapshot, save as save_snapshot,
};
pub use saved::suspend::{check_resumable, pause, suspend};
pub use saved::template_file::{
    ImportOptions, export as export_template, import as import_template,
};
pub use saved::templates::{
    Row as TemplateRow, delete as delete_templates, list as templates, prune as prune_templates,
};
pub use start::assets::get_assets;
pub use start::{Started, start};

use crate::egress;
use crate::error::Result;
use crate::fsutil::{self, Lock};
use crate::hypervisor::{self, AccelChoice, Hypervisor, Libvirt};
use crate::profile::{Profile, ProfileName};
use crate::progress::Progress;
use crate::store::Store;

use crate::assets::components::Source;
use crate::assets::version::KubernetesVersion;
use crate::units::Mebibytes;
use std::path::PathBuf;
use std::time::Duration;

/// What the user asks of `start`; `None` keeps what the profile has, or takes the default.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// Kubernetes to install.
    pub kubernetes_version: Option<KubernetesVersion>,
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory of the node.
    pub memory: Option<Mebibytes>,
    /// Size of the node's disk.
    pub disk: Option<Mebibytes>,
    /// Hardware virtualisation or emulation.
    pub accel: Option<AccelChoice>,
    /// libvirt connection URI.
    pub connect: Option<String>,
    /// Port on 127.0.0.1 for kube-apiserver.
    pub api_port: Option<u16>,
    /// Port on 127.0.0.1 for SSH.
    pub ssh_port: Option<u16>,
    /// A prebuilt node image, path or URL.
    pub image: Option<String>,
    /// Its SHA-256.
    pub image_sha256: Option<String>,
    /// Where components come from.
    pub component_source: Source,
    /// A folder with components.
    pub components: Option<PathBuf>,
    /// Base URL with the layout of the official downloads.
    pub binary_mirror: Option<String>,
    /// Write the context to the profile's own kubeconfig only, when the cluster is made.
    pub own_kubeconfig: bool,
    /// Leave kubectl's current context as it is.
    pub keep_context: bool,
    /// Extra kernel arguments.
    pub kernel_args: Vec<String>,
    /// Add-ons to have, by name or folder, beside those that the profile has.
    pub addons: Vec<String>,
    /// Add-ons to do without.
    pub no_addons: Vec<String>,
    /// How the node reaches the world.
    pub egress: egress::Settings,
    /// Limit for boot and health together.
    pub timeout: Option<Duration>,
    /// Whether to begin from a warm template, and to make one.
    pub templates: Templates,
}

/// What `start` does about warm templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Templates {
    /// Begins from one; where there is none, the healthy cluster is saved as one before the user
    /// gets it.
    #[default]
    Use,
    /// Leaves them alone.
    Off,
}

/// Locks a profile against other kubby processes; whoever has to wait is told for what.
fn lock(store: &Store, name: &ProfileName, progress: &dyn Progress) -> Result<Lock> {
    let lock = store.lock_profile(name, |holder| {
        progress.note(&format!(
            "waiting for another kubby that works on `{name}`: {holder}"
        ));
    })?;
    fsutil::remove_unfinished(store.profile_dir(name).root())?;
    Ok(lock)
}

/// The serial console of a cluster's machine since its last start, the last `lines` of it, without
/// control sequences: a console's own would make the reader's terminal answer them.
///
/// # Errors
/// [`crate::error::Kind::Hypervisor`] when libvirt cannot be asked.
pub fn console(store: &Store, profile: &Profile, lines: usize) -> Result<String> {
    let names = machine::resources::Names::new(store, profile);
    let text = Libvirt::open(&profile.connect)?.read_log(&names.pool, &names.console)?;
    Ok(hypervisor::console::tail(&text, lines))
}
