//! The rules that hold after every command, whether it was killed or not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::operator::Operator;
use super::world::{Pool, State, World};
use crate::cluster::machine::host::Host;
use crate::cluster::saved::garbage;
use crate::fsutil;
use crate::profile::Profile;

/// The name of a domain, a pool and a context that kubby did not make.
pub(super) const STRANGER: &str = "stranger";

/// The user's own kubeconfig, before kubby comes.
pub(super) const OWN_KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
# The office's.
clusters:
- name: stranger
  cluster: {server: 'https://stranger.example'}
contexts:
- name: stranger
  context: {cluster: stranger, user: stranger}
users:
- name: stranger
  user: {token: secret}
current-context: stranger
";

/// Returns the state of all files below a folder: names, sizes, inodes and times.
fn files_below(folder: &Path, into: &mut String) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        if meta.is_dir() {
            let _ = writeln!(into, "{}/", path.display());
            files_below(&path, into);
            continue;
        }
        let _ = writeln!(
            into,
            "{} {} {} {}.{}",
            path.display(),
            meta.len(),
            meta.ino(),
            meta.ctime(),
            meta.ctime_nsec()
        );
    }
}

/// Returns all that belongs to a home, to be compared: files, domains with their state, volumes, pool.
pub(super) fn belongings(operator: &Operator) -> String {
    let mut text = String::new();
    files_below(operator.store.home(), &mut text);
    let state = operator.world.state();
    let home = operator.store.home();
    let own = state.domains.values();
    for domain in own.filter(|d| d.marked && d.spec.owner.home == home) {
        describe(domain, &mut text);
    }
    for (path, volume) in state
        .volumes
        .iter()
        .filter(|(path, _)| path.starts_with(home))
    {
        let version = volume.disk.as_ref().map(|disk| disk.version);
        let _ = writeln!(text, "{} {} {version:?}", path.display(), volume.uploaded);
    }
    let pool = state.pools.get(&operator.store.pool_name());
    let _ = writeln!(text, "{pool:?}");
    text
}

fn describe(domain: &super::world::Domain, into: &mut String) {
    let run = domain
        .run
        .as_ref()
        .map(|run| (run.paused, &run.disk, &run.forwards));
    let _ = writeln!(into, "{} {} {run:?}", domain.spec.name, domain.spec.uuid);
}

/// Returns all that no kubby made, to be compared.
pub(super) fn strangers(world: &World) -> String {
    let state = world.state();
    let mut text = String::new();
    for domain in state.domains.values().filter(|domain| !domain.marked) {
        describe(domain, &mut text);
    }
    let pool: Option<&Pool> = state.pools.get(STRANGER);
    let _ = writeln!(text, "{pool:?}");
    if let Some(pool) = pool {
        files_below(&pool.target, &mut text);
    }
    text
}

/// Checks what holds at any moment, also after a kill.
pub(super) fn check_always(operators: &[&Operator], world: &World) {
    let state = world.state();
    assert_eq!(state.violations, [""; 0]);
    for domain in state.domains.values().filter(|domain| domain.marked) {
        let owner = &domain.spec.owner;
        let mut homes = operators.iter();
        let home = homes.find(|o| o.store.home() == owner.home).unwrap();
        let dir = home.store.profile_dir(&owner.profile.parse().unwrap());
        assert!(dir.root().exists(), "{} has no profile", domain.spec.name);
    }
}

/// Checks that no two profiles of a home have the same port.
pub(super) fn check_ports(operator: &Operator) {
    let mut ports = BTreeMap::new();
    for name in operator.store.profile_names().unwrap() {
        let profile = Profile::load(&operator.store.profile_dir(&name)).unwrap();
        for port in profile.iter().flat_map(Profile::host_ports) {
            let other = ports.insert(port, name.clone());
            assert_eq!(other, None, "{name} has the same port {port}");
        }
    }
}

/// Checks that nothing is in the home's pool that nothing needs, after a command that removes that.
pub(super) fn check_no_garbage(operator: &Operator) {
    operator.complete(|env| {
        let host = Host::open(env, super::world::URI).unwrap();
        let unneeded = garbage::unneeded(&host, None).unwrap();
        assert_eq!(
            unneeded.as_deref(),
            Some(&[][..]),
            "nothing needs these volumes"
        );
        let unfinished = garbage::unfinished(env.store).unwrap();
        assert!(unfinished.is_empty(), "{unfinished:?}");
    });
}

/// Checks that nothing of a home is left anywhere.
pub(super) fn check_gone(operator: &Operator) {
    let mut left = String::new();
    files_below(operator.store.home(), &mut left);
    assert!(
        left.is_empty() && !operator.store.home().exists(),
        "left: {left}"
    );
    let state: &State = &operator.world.state();
    let home = operator.store.home();
    let domains = state.domains.values().filter(|d| d.marked);
    let domains = domains.filter(|d| fsutil::same_place(&d.spec.owner.home, home));
    assert_eq!(domains.count(), 0, "a domain is left");
    let pools = state
        .pools
        .values()
        .filter(|pool| pool.target.starts_with(home));
    assert_eq!(pools.count(), 0, "a pool is left");
    let text = fs::read_to_string(&operator.kubeconfig).unwrap();
    assert!(!text.contains(&*home.to_string_lossy()), "{text}");
}

/// Checks that the user's kubeconfig is as it was before kubby came, except for the current context, which
/// a start changes, and that nothing is left beside it.
pub(super) fn check_own_kubeconfig(kubeconfig: &Path) {
    let text = fs::read_to_string(kubeconfig).unwrap();
    let current = format!("current-context: {STRANGER}");
    let text = text.replace("current-context: \"\"", &current);
    assert_eq!(text, OWN_KUBECONFIG);
    let beside = fs::read_dir(kubeconfig.parent().unwrap()).unwrap();
    let names: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [kubeconfig.file_name().unwrap()]);
}
