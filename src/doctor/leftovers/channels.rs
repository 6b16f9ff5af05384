//! Named pipes into machines that are gone.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::listed;
use crate::cluster::machine::resources;
use crate::doctor::finding::Finding;
use crate::doctor::repair::{Guard, Repair};
use crate::doctor::surroundings::Surroundings;
use crate::hypervisor::Hypervisor;
use crate::profile::ProfileName;

const NAME: &str = "leftover-channels";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut pools: Vec<PathBuf> = Vec::new();
    for connection in &s.connections {
        let target = s.store.pool_target(&connection.uri);
        if resources::reaches_files(&connection.uri) && !pools.contains(&target) {
            pools.push(target);
        }
    }
    if pools.is_empty() || s.connections.iter().any(|c| c.link.is_err()) {
        return vec![Finding::skipped(NAME, "libvirt does not answer here")];
    }
    // A domain keeps its channel: a leftover one until it goes itself, another home's for good.
    let has_domain = |profile: &ProfileName| {
        let domain = profile.resource_name();
        s.links()
            .any(|(_, link)| !matches!(link.libvirt.find(&domain), Ok(None)))
    };
    let gone = |profile: &ProfileName| {
        !s.has_folder(profile) && !s.is_busy(profile) && !has_domain(profile)
    };
    let left = pools.iter().flat_map(|pool| pipes(pool, gone));
    let left = left.map(|path| (path, Guard::Shared)).collect();
    vec![judge(left)]
}

/// The pipes in a pool's folder whose profile is gone.
fn pipes(pool: &Path, gone: impl Fn(&ProfileName) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(pool).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_fifo()))
        .filter(|entry| {
            let name = entry.file_name();
            let profile = name.to_str().and_then(profile_of);
            profile.is_some_and(|profile| gone(&profile))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// The profile of `kubby-dev.channel.in`.
fn profile_of(file: &str) -> Option<ProfileName> {
    let domain = file
        .strip_suffix(".channel.in")
        .or(file.strip_suffix(".channel.out"))?;
    ProfileName::of_resource(domain)
}

fn judge(left: Vec<(PathBuf, Guard)>) -> Finding {
    if left.is_empty() {
        return Finding::ok(NAME, "each channel has its machine");
    }
    let paths = listed(left.iter().map(|(path, _)| path.as_path()));
    Finding::warning(
        NAME,
        format!("these channels lead into machines that are gone: {paths}"),
        "kubby doctor --fix removes them",
    )
    .with(Repair::Remove(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn pipes_of_profiles_that_are_gone_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "kubby.channel.in",
            "kubby-a.channel.in",
            "kubby-a.channel.out",
            "other.channel.in",
            "kubby-a.pipe",
        ] {
            mknodat(CWD, dir.path().join(name), FileType::Fifo, Mode::RUSR, 0).unwrap();
        }
        std::fs::write(dir.path().join("kubby-b.channel.in"), "a file").unwrap();
        let found = pipes(dir.path(), |profile| profile.as_str() != "kubby");
        let names: Vec<_> = found.iter().map(|p| p.file_name().unwrap()).collect();
        assert_eq!(names, ["kubby-a.channel.in", "kubby-a.channel.out"]);
        assert_eq!(judge(vec![]).remedy, None);
    }
}
