//! `kubby start`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

use super::context::Context;
use crate::assets::version::DEFAULT;
use crate::cli::{OutputFormat, StartArgs};
use crate::cluster;
use crate::cluster::spec::StartOptions;
use crate::cluster::start::Started;
use crate::error::Result;
use crate::profile::ProfileName;
use crate::progress::Progress;
use crate::trace::{self, Recording, Traced};
use crate::ui;

/// Runs the command.
pub(super) fn run(context: &Context, args: &StartArgs) -> Result<ExitCode> {
    let Some(file) = &args.trace else {
        return start(context, args, context.progress.as_ref());
    };
    let recording = Recording::begin(file)?;
    let progress = Traced(context.progress.as_ref());
    let result = start(context, args, &progress);
    // If both fail, the error of the start is the one that the user needs.
    let written = recording.end();
    let code = result?;
    written?;
    Ok(code)
}

fn start(context: &Context, args: &StartArgs, progress: &dyn Progress) -> Result<ExitCode> {
    let _span = trace::span("kubby start");
    if args.download_only {
        return download(context, args, progress);
    }
    let options = StartOptions {
        keep_context: args.keep_context,
        timeout: args.timeout.map(Duration::from_secs),
        cluster: args.cluster.clone(),
        ..StartOptions::default()
    };
    start_profile(context, &context.global.profile, &options, progress)
}

/// Starts the selected cluster with its present settings and prints the result.
pub(super) fn start_again(context: &Context) -> Result<ExitCode> {
    let options = StartOptions {
        keep_context: true,
        ..StartOptions::default()
    };
    let (name, progress) = (&context.global.profile, context.progress.as_ref());
    start_profile(context, name, &options, progress)
}

/// Starts a cluster and prints the result.
pub(super) fn start_profile(
    context: &Context,
    name: &ProfileName,
    options: &StartOptions,
    progress: &dyn Progress,
) -> Result<ExitCode> {
    let began = Instant::now();
    let started = cluster::start::start(&context.env_with(progress), name, options)?;
    let seconds = began.elapsed().as_secs_f64();
    let profile = &started.cluster.profile;
    let machine = &profile.first().machine;
    let stages: serde_json::Map<String, serde_json::Value> = started
        .stages
        .iter()
        .map(|(name, time)| ((*name).to_owned(), json!(hundredths(time.as_secs_f64()))))
        .collect();
    let data = json!({
        "profile": profile.name,
        "context": profile.name.resource_name(),
        "currentContext": started.current_context,
        "server": profile.server(),
        "kubeconfig": profile.kubeconfig,
        "ownKubeconfig": started.cluster.dir.kubeconfig(),
        "kubernetesVersion": started.node_version,
        "acceleration": machine.acceleration,
        "cpus": machine.cpus,
        "memoryMiB": machine.memory_mib,
        "diskMiB": machine.disk_mib,
        "created": started.created,
        "wasRunning": started.was_running,
        "fromTemplate": started.from_template,
        "changedFiles": started.changed,
        "renewedCertificates": started.renewed,
        "stages": stages,
        "seconds": hundredths(seconds),
    });
    if context.global.output == OutputFormat::Text && !context.global.quiet {
        // Scripts use the JSON or the exit code, so the summary is progress and goes to stderr.
        ui::say(&summary(&started, seconds));
    }
    context.report("Start", &data, "")
}

/// Rounds seconds to two decimals.
fn hundredths(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

/// Fills the cache for `--download-only`.
fn download(context: &Context, args: &StartArgs, progress: &dyn Progress) -> Result<ExitCode> {
    let args = &args.cluster;
    let version = args.kubernetes_version.unwrap_or(DEFAULT);
    let (image, components) =
        cluster::start::get_assets(&context.env_with(progress), version, args)?;
    let data = json!({
        "kubernetesVersion": version.to_string(),
        "nodeImage": image.disk,
        "components": components.volume,
        "kubectl": components.kubectl,
    });
    let text = format!(
        "node image {}\ncomponents {}\nkubectl {}\n",
        image.disk.display(),
        components.volume.display(),
        components.kubectl.display()
    );
    context.report("Download", &data, &text)
}

/// Returns the summary of a start, with three commands to try next.
fn summary(started: &Started, seconds: f64) -> String {
    let profile = &started.cluster.profile;
    let flag = profile.name.flag();
    let context = profile.name.resource_name();
    let what = if started.was_running && started.changed.is_empty() {
        "was running and is healthy"
    } else if started.created {
        "is ready"
    } else {
        "is back"
    };
    let kubectl = if started.current_context {
        "kubectl get nodes".to_owned()
    } else {
        format!("kubectl --context {context} get nodes")
    };
    format!(
        "\nThe cluster `{name}` {what} ({seconds:.1} s): Kubernetes {version} at {server}, context `{context}` in {file}.\n\
         Try next:\n  {kubectl}\n  kubby ssh{flag}\n  kubby status{flag}",
        name = profile.name,
        version = started.node_version,
        server = profile.server(),
        file = profile.kubeconfig.display(),
    )
}
