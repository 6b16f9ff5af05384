//! `kubby kubectl`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use super::context::Context;
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::tool;

/// Replaces this process by the kubectl of the cluster's version, with the cluster's own kubeconfig.
pub(super) fn run(context: &Context, args: &[String]) -> Result<ExitCode> {
    let cluster = Cluster::open(&context.store, &context.global.profile)?;
    let cached = cluster.profile.assets.kubectl.clone();
    // Users may delete the cache at any time; then the host's own kubectl is used.
    let program = Some(cached.clone())
        .filter(|p| p.is_file())
        .or_else(|| tool::find("kubectl"));
    let Some(program) = program else {
        return Err(Error::assets(format!(
            "kubectl not found: {} no longer exists, and this host has none in PATH",
            cached.display()
        ))
        .with_hint(format!(
            "kubby start{} downloads or builds it again",
            cluster.profile.name.flag()
        )));
    };
    let error = Command::new(&program)
        .arg0("kubectl")
        .args(args)
        .env("KUBECONFIG", cluster.dir.kubeconfig())
        .exec();
    Err(Error::internal(format!("cannot run {}", program.display())).with_source(error))
}
