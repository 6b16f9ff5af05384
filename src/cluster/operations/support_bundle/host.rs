//! The parts of a bundle that this host has: they need no node that answers.

use serde_json::json;

use super::parts::Parts;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::operations::status::{HostState, status};
use crate::error::{Kind, Result, ResultExt};
use crate::hypervisor::{AccelFacts, HostInfo, console, default_uri, library_version};
use crate::name::ProfileName;
use crate::profile::Profile;
use crate::store::Store;

/// Looks at everything, and returns the state of the virtual machine.
pub(super) fn collect(
    env: &Env<'_>,
    name: &ProfileName,
    profile: Option<&Profile>,
    parts: &mut Parts,
) -> HostState {
    let uri = profile.map_or_else(|| default_uri(None), |profile| profile.connect.clone());
    let host = Host::open(env, &uri).and_then(|h| h.info().map(|info| (h, info)));
    let info = host.as_ref().ok().map(|(_, info)| info);
    parts.add("versions.txt", Ok(versions(profile, info)));
    parts.add("host.json", Ok(facts(env.store, info)));
    match &host {
        Ok((host, _)) => machines(host, name, profile.is_some(), parts),
        Err(e) => parts.problem("domain.xml, volumes.txt and console.txt", e),
    }
    if profile.is_some() {
        let path = env.store.profile_dir(name).profile();
        let text = std::fs::read_to_string(&path)
            .context(Kind::State, || format!("cannot read {}", path.display()));
        parts.add("profile.toml", text);
    }
    let status = status(env, name, true);
    let state = status.as_ref().map_or(HostState::Broken, |s| s.host);
    parts.add("status.json", status.map(|status| json!(status)));
    state
}

fn machines(host: &Host<'_>, name: &ProfileName, exists: bool, parts: &mut Parts) {
    match Machine::all_without_profile(host, name) {
        Ok(machines) => machines
            .iter()
            .for_each(|m| machine(m, name, exists, parts)),
        Err(e) => parts.problem("domain.xml and console.txt", &e),
    }
    parts.add("volumes.txt", volumes(host));
}

fn machine(machine: &Machine<'_>, name: &ProfileName, exists: bool, parts: &mut Parts) {
    let domain = &machine.names.domain;
    let node = domain.strip_prefix(&format!("{}.", name.resource_name()));
    let folder = node.map_or_else(String::new, |node| format!("nodes/{node}/"));
    let file = |name: &str| format!("{folder}{name}");
    match machine.host.libvirt().definition(domain) {
        Ok(None) => parts.missing(&file("domain.xml"), "libvirt has no such domain"),
        xml => parts.add(&file("domain.xml"), xml.map(Option::unwrap_or_default)),
    }
    if exists {
        let text = machine.console().map(|text| match text.trim() {
            // A resumed machine has little to write.
            "" => "Nothing was written since the machine's last start.\n".to_owned(),
            _ => console::tail(&text, usize::MAX),
        });
        parts.add(&file("console.txt"), text);
    }
}

fn volumes(host: &Host<'_>) -> Result<String> {
    let mut text = format!("pool {} in {}\n", host.pool(), host.target().display());
    for volume in host.volumes()?.all() {
        text += &format!("{}: {} bytes on the disk", volume.name, volume.allocation);
        if let Some(backing) = &volume.backing {
            text += &format!(", on {}", backing.display());
        }
        text.push('\n');
    }
    if host.libvirt().has_pool(host.pool())? {
        let free = host.libvirt().pool_available_bytes(host.pool())?;
        text += &format!("free: {free} bytes\n");
    }
    Ok(text)
}

fn versions(profile: Option<&Profile>, info: Option<&HostInfo>) -> String {
    let system = rustix::system::uname();
    let word = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let release = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    let unknown = || "unknown".to_owned();
    let kubernetes = profile.map_or_else(unknown, |p| p.spec.kubernetes_version.clone());
    let qemu = info.map_or_else(unknown, |i| i.qemu_version.to_string());
    let libvirt = info.map_or_else(unknown, |i| i.libvirt_version.to_string());
    let host = release.map_or("unknown", |r| r.trim_matches('"'));
    format!(
        "kubby: {}\nKubernetes: {kubernetes}\nQEMU: {qemu}\nlibvirt: {libvirt}\n\
         libvirt library: {}\nhost kernel: {} {}\nhost system: {host}\n",
        env!("CARGO_PKG_VERSION"),
        library_version(),
        word(system.release()),
        word(system.machine()),
    )
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
