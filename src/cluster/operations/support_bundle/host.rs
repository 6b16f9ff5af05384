//! The parts of a bundle that this host has: they need no node that answers.

use std::fmt::Write as _;

use serde_json::json;

use super::parts::{Content, Parts};
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::operations::status::{HostState, status};
use crate::error::{Kind, Result, ResultExt};
use crate::hypervisor::{AccelFacts, HostInfo, console, default_uri, library_version};
use crate::name::ProfileName;
use crate::profile::Profile;
use crate::store::Store;

/// Looks at everything, and says what the virtual machine does.
pub(super) fn collect(
    env: &Env<'_>,
    name: &ProfileName,
    profile: Option<&Profile>,
    parts: &mut Parts,
) -> HostState {
    let store = env.store;
    let uri = match profile {
        Some(profile) => profile.connect.clone(),
        None => default_uri(None),
    };
    let hypervisor = Host::open(env, &uri).and_then(|h| h.info().map(|info| (h, info)));
    let info = hypervisor.as_ref().ok().map(|(_, info)| info);
    parts.add("versions.txt", Content::Text(versions(profile, info)));
    parts.add("host.json", Content::Json(facts(store, info)));
    match &hypervisor {
        Ok((hypervisor, _)) => machine(hypervisor, name, profile.is_some(), parts),
        Err(e) => parts.problem("domain.xml, volumes.txt and console.txt", e),
    }
    if profile.is_some() {
        let path = store.profile_dir(name).profile();
        let text = std::fs::read_to_string(&path);
        match text.context(Kind::State, || format!("cannot read {}", path.display())) {
            Ok(text) => parts.add("profile.toml", Content::Text(text)),
            Err(e) => parts.problem("profile.toml", &e),
        }
    }
    match status(env, name, true) {
        Ok(status) => {
            let host = status.host;
            parts.add("status.json", Content::Json(json!(status)));
            host
        }
        Err(e) => {
            parts.problem("status.json", &e);
            HostState::Broken
        }
    }
}

fn machine(host: &Host<'_>, name: &ProfileName, exists: bool, parts: &mut Parts) {
    let machine = Machine::without_profile(host, name);
    match host.libvirt().definition(&machine.names.domain) {
        Ok(Some(xml)) => parts.add("domain.xml", Content::Text(xml)),
        Ok(None) => parts.missing("domain.xml", "libvirt has no such domain"),
        Err(e) => parts.problem("domain.xml", &e),
    }
    match volumes(host) {
        Ok(text) => parts.add("volumes.txt", Content::Text(text)),
        Err(e) => parts.problem("volumes.txt", &e),
    }
    if !exists {
        return;
    }
    match machine.console() {
        Ok(text) if text.trim().is_empty() => {
            // A resumed machine has little to write.
            let text = "Nothing was written since the machine's last start.\n";
            parts.add("console.txt", Content::Text(text.into()));
        }
        Ok(text) => parts.add(
            "console.txt",
            Content::Text(console::tail(&text, usize::MAX)),
        ),
        Err(e) => parts.problem("console.txt", &e),
    }
}

fn volumes(host: &Host<'_>) -> Result<String> {
    let mut text = format!("pool {} in {}\n", host.pool(), host.target().display());
    for volume in host.volumes()?.all() {
        let backing = volume.backing.as_ref();
        let backing = backing.map(|b| format!(", on {}", b.display()));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: {} bytes on the disk{}",
            volume.name,
            volume.allocation,
            backing.unwrap_or_default()
        );
    }
    if host.libvirt().has_pool(host.pool())? {
        let free = host.libvirt().pool_available_bytes(host.pool())?;
        let _ = writeln!(text, "free: {free} bytes");
    }
    Ok(text)
}

fn versions(profile: Option<&Profile>, info: Option<&HostInfo>) -> String {
    let system = rustix::system::uname();
    let word = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let release = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    let unknown = || "unknown".to_owned();
    let mut text = String::new();
    for (what, version) in [
        ("kubby", env!("CARGO_PKG_VERSION").to_owned()),
        (
            "Kubernetes",
            profile.map_or_else(unknown, |p| p.spec.kubernetes_version.clone()),
        ),
        (
            "QEMU",
            info.map_or_else(unknown, |i| i.qemu_version.to_string()),
        ),
        (
            "libvirt",
            info.map_or_else(unknown, |i| i.libvirt_version.to_string()),
        ),
        ("libvirt library", library_version().to_string()),
        (
            "host kernel",
            format!("{} {}", word(system.release()), word(system.machine())),
        ),
        (
            "host system",
            release.map_or_else(unknown, |r| r.trim_matches('"').to_owned()),
        ),
    ] {
        let _ = writeln!(text, "{what}: {version}");
    }
    text
}

fn kvm(info: &HostInfo) -> serde_json::Value {
    let facts = AccelFacts::gather(info);
    json!({
        "processor": facts.cpu_extensions,
        "device": format!("{:?}", facts.device),
        "libvirt": facts.libvirt_kvm,
    })
}

fn facts(store: &Store, info: Option<&HostInfo>) -> serde_json::Value {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let load = read("/proc/loadavg").unwrap_or_default();
    let model = read("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find(|l| l.starts_with("model name"));
    // Without their values, which may be secret.
    let proxies: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.to_ascii_lowercase().ends_with("_proxy"))
        .collect();
    json!({
        "uri": info.map(|i| &i.uri),
        "cpus": info.map(|i| i.cpus),
        "cpuModel": model.and_then(|l| l.split_once(':')).map(|(_, m)| m.trim()),
        "memoryMiB": info.map(|i| i.memory.0),
        "availableMemoryMiB": info.map(|i| i.available_memory.0),
        "domainTypes": info.map(|i| &i.domain_types),
        "emulator": info.and_then(|i| i.emulator.as_ref()),
        "kvm": info.map(kvm),
        "load": load.trim(),
        "home": store.home(),
        "cache": store.cache(),
        "proxyVariables": proxies,
        "root": rustix::process::geteuid().is_root(),
    })
}
