//! `kubby kubectl`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::cli::KubectlArgs;
use crate::cluster::Access;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::tool;

/// Becomes the kubectl of the cluster's version, with the cluster's own kubeconfig.
pub fn run(context: &Context, args: &KubectlArgs) -> Result<ExitCode> {
    let access = Access::open(&context.store, &context.global.profile)?;
    let cached = access.profile.assets.kubectl.clone();
    // The cache may be deleted at any time; the host's own kubectl does as well.
    let program = Some(cached.clone())
        .filter(|p| p.is_file())
        .or_else(|| tool::find("kubectl"));
    let Some(program) = program else {
        return Err(Error::new(
            Kind::Assets,
            format!(
                "there is no kubectl: {} is gone and none is installed",
                cached.display()
            ),
        )
        .with_hint(format!(
            "kubby start{} gets it again",
            access.profile.name.flag()
        )));
    };
    let error = Command::new(&program)
        .arg0("kubectl")
        .args(&args.args)
        .env("KUBECONFIG", access.dir.kubeconfig())
        .exec();
    Err(Error::new(Kind::Internal, format!("cannot run {}", program.display())).with_source(error))
}
