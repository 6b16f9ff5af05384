//! Named pipes into machines that are gone.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::judge;
use crate::cluster::machine::host::reaches_files;
use crate::doctor::context::DoctorContext;
use crate::doctor::files::{entries, name};
use crate::doctor::finding::Finding;
use crate::doctor::owned::profile_of_file;
use crate::doctor::repair::Guard;
use crate::profile::ProfileName;

/// The endings of the two pipes of a domain.
const PIPES: [&str; 2] = [".channel.in", ".channel.out"];

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let mut pools: Vec<PathBuf> = Vec::new();
    for connection in &s.connections {
        let target = s.env.store.pool_target(&connection.uri);
        if reaches_files(&connection.uri) && !pools.contains(&target) {
            pools.push(target);
        }
    }
    if pools.is_empty() || s.connections.iter().any(|c| c.link.is_err()) {
        return vec![Finding::skipped("libvirt does not answer here")];
    }
    // A domain keeps its channel: a leftover one until it is removed itself, another home's always.
    let has_domain = |profile: &ProfileName| {
        let domain = profile.resource_name();
        s.links()
            .any(|(_, link)| !matches!(link.host.libvirt().find(&domain), Ok(None)))
    };
    let is_gone = |profile: &ProfileName| s.is_gone(profile) && !has_domain(profile);
    let left = pools.iter().flat_map(|pool| pipes(pool, is_gone));
    vec![judge(
        left.map(|path| (path, Guard::Shared)).collect(),
        "each channel has its machine",
        "these channels lead into machines that are gone",
    )]
}

/// Returns the pipes in a pool's folder whose profile is gone.
fn pipes(pool: &Path, is_gone: impl Fn(&ProfileName) -> bool) -> Vec<PathBuf> {
    let is_pipe = |path: &Path| {
        path.symlink_metadata()
            .is_ok_and(|m| m.file_type().is_fifo())
    };
    let mut found = entries(pool);
    found.retain(|path| {
        let profile = profile_of_file(name(path), PIPES);
        is_pipe(path) && profile.is_some_and(|profile| is_gone(&profile))
    });
    found
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
    }
}
