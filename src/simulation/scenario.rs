//! A host with strangers and homes on it, the commands that are run there, and what is known of their
//! results.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::disk::ram_disk;
use super::invariants::{self, OWN_KUBECONFIG, STRANGER};
use super::keys;
use super::operator::{Operator, options};
use super::world::{Domain, Pool, World};
use crate::cluster::Cluster;
use crate::cluster::counts::WORKER;
use crate::cluster::env::Env;
use crate::cluster::operations::nodes::Deletion;
use crate::cluster::operations::throwaway::Throwaway;
use crate::cluster::operations::{certs, delete, nodes, pause, stop, throwaway};
use crate::cluster::saved::fork::fork;
use crate::cluster::saved::{snapshots, suspend, templates};
use crate::cluster::spec::ClusterArgs;
use crate::cluster::start;
use crate::doctor;
use crate::error::Result;
use crate::hypervisor::State;
use crate::name::{ProfileName, SnapshotName};
use crate::process::simulated::KillAt;

/// A command on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// `boot` neither uses nor saves a template.
    Start {
        addons: bool,
        boot: bool,
    },
    Stop {
        force: bool,
    },
    Suspend,
    Pause,
    Resume,
    Save(SnapshotName),
    Restore(SnapshotName),
    DeleteSnapshot(SnapshotName),
    Fork {
        new: ProfileName,
        from: Option<SnapshotName>,
    },
    Prune {
        every: bool,
    },
    RenewCertificates,
    Run {
        keep: bool,
    },
    Sweep,
    Repair,
    AddNode,
    /// Deletes the last node.
    DeleteNode,
    Delete,
}

impl Command {
    /// Runs the command as the command line does.
    pub(super) fn run(&self, env: &Env<'_>, name: &ProfileName) -> Result<()> {
        match self {
            Command::Start { addons, boot } => {
                let mut options = options(*addons);
                options.cluster.no_template = *boot;
                start::start(env, name, &options).map(drop)
            }
            Command::Stop { force } => stop::stop(env, name, *force, None).map(drop),
            Command::Suspend => suspend::suspend(env, name).map(drop),
            Command::Pause => pause::pause(env, name).map(drop),
            Command::Resume => {
                pause::check_resumable(env, name)?;
                start::start(env, name, &options(true)).map(drop)
            }
            Command::Save(snapshot) => snapshots::save(env, name, snapshot).map(drop),
            Command::Restore(snapshot) => snapshots::restore(env, name, snapshot),
            Command::DeleteSnapshot(snapshot) => snapshots::delete(env, name, snapshot).map(drop),
            Command::Fork { new, from } => fork(env, name, new, from.as_ref(), false),
            Command::Prune { every } => templates::prune(env, *every).map(drop),
            Command::RenewCertificates => certs::renew(env, name, &[]).map(drop),
            Command::Run { keep } => {
                throwaway::sweep(env)?;
                let cluster = Throwaway::begin(env, Some(name), false)?;
                cluster.start(options(false))?;
                match keep {
                    true => cluster.keep().map(drop),
                    false => cluster.delete(),
                }
            }
            Command::Sweep => throwaway::sweep(env).map(drop),
            Command::Repair => doctor::repair_home(env).map(drop),
            Command::AddNode => nodes::add(env, name, WORKER, ClusterArgs::default()).map(drop),
            Command::DeleteNode => {
                let node = Cluster::open(env.store, name)?.profile.nodes.pop();
                let node = node.map(|node| node.name).unwrap_or_default();
                let asked = Deletion {
                    force: true,
                    delete_data: false,
                    limit: Duration::from_secs(1),
                };
                nodes::delete(env, name, &node, &asked)
            }
            Command::Delete => {
                if throwaway::sweep(env)?.contains(name) {
                    return Ok(());
                }
                delete::delete(env, name).map(drop)
            }
        }
    }

    /// Returns whether the command makes volumes or leaves some that were needed before.
    fn changes_volumes(&self) -> bool {
        let others = [Command::Pause, Command::Sweep, Command::RenewCertificates];
        !others.contains(self)
    }

    /// Returns whether the command, once completed, has removed what earlier ones have left in the pool.
    /// A suspend has nothing to do where the cluster `was_suspended` before.
    fn sweeps(&self, was_suspended: bool) -> bool {
        match self {
            Command::Suspend => !was_suspended,
            Command::Restore(_) | Command::Prune { .. } | Command::Delete => true,
            _ => false,
        }
    }
}

/// The things that can be in a cluster: what the user wrote last, or, after a kill, one of several.
#[derive(Debug, Clone, Default)]
struct Known {
    data: BTreeSet<u64>,
    snapshots: BTreeMap<SnapshotName, BTreeSet<u64>>,
}

/// A home and what is known of its clusters.
pub(super) struct Home {
    pub(super) operator: Operator,
    clusters: BTreeMap<ProfileName, Known>,
    /// A killed or failed command may have left something in the pool.
    dirty: bool,
}

/// The host with its homes.
pub(super) struct Scenario {
    pub(super) world: Arc<World>,
    pub(super) homes: Vec<Home>,
    strangers: String,
    written: u64,
    root: tempfile::TempDir,
}

impl Scenario {
    /// Makes a host with this number of homes.
    pub(super) fn new(homes: usize) -> Self {
        keys::prepare();
        let root = tempfile::tempdir_in(ram_disk()).unwrap();
        let world = Arc::new(World::default());
        let homes = (0..homes).map(|n| Home {
            operator: Operator::new(&world, root.path(), &format!("home{n}")),
            clusters: BTreeMap::new(),
            dirty: false,
        });
        let mut scenario = Scenario {
            homes: homes.collect(),
            strangers: String::new(),
            written: 0,
            world,
            root,
        };
        scenario.add_strangers();
        scenario
    }

    fn add_strangers(&mut self) {
        let target = self.root.path().join(STRANGER);
        fs::create_dir(&target).unwrap();
        fs::write(target.join("disk.qcow2"), STRANGER).unwrap();
        let kubeconfig = &self.homes[0].operator.kubeconfig;
        fs::create_dir(kubeconfig.parent().unwrap()).unwrap();
        fs::write(kubeconfig, OWN_KUBECONFIG).unwrap();
        let mut state = self.world.state();
        let pool = Pool {
            active: true,
            target,
        };
        state.pools.insert(STRANGER.to_owned(), pool);
        // The second has the name that a cluster of kubby would have.
        for name in [STRANGER, "kubby-taken"] {
            let mut spec =
                crate::hypervisor::domain_xml::example(crate::hypervisor::Acceleration::Kvm);
            spec.name = name.to_owned();
            let domain = Domain {
                spec,
                marked: false,
                run: None,
            };
            state.domains.insert(name.to_owned(), domain);
        }
        drop(state);
        self.strangers = invariants::strangers(&self.world);
    }

    /// Runs a command by a home, perhaps to its death, and checks all that has to hold then. Returns whether
    /// it completed, and how many places it passed.
    pub(super) fn step(
        &mut self,
        home: usize,
        name: &ProfileName,
        command: &Command,
        kill_at: Option<KillAt>,
    ) -> (Option<Result<()>>, u32) {
        let others = || self.homes.iter().enumerate().filter(|(n, _)| *n != home);
        let before: Vec<String> = others()
            .map(|(_, home)| invariants::belongings(&home.operator))
            .collect();
        let operator = &self.homes[home].operator;
        let was_suspended = operator.store.profile_dir(name).suspended().exists();
        let (result, process) = operator.run(kill_at, |env| command.run(env, name));
        let after: Vec<String> = others()
            .map(|(_, home)| invariants::belongings(&home.operator))
            .collect();
        assert_eq!(before, after, "something of another home has changed");
        assert_eq!(self.strangers, invariants::strangers(&self.world));
        let operators: Vec<&Operator> = self.homes.iter().map(|home| &home.operator).collect();
        invariants::check_always(&operators, &self.world);
        let result = result.ok();
        self.learn(home, name, command, matches!(result, Some(Ok(()))));
        match &result {
            Some(Ok(())) => self.check_completed(home, name, command, was_suspended),
            _ => self.homes[home].dirty = true,
        }
        (result, process.count())
    }

    /// Records what the clusters hold after a command; one that did not complete leaves the old or the new.
    fn learn(&mut self, home: usize, name: &ProfileName, command: &Command, completed: bool) {
        let home = &mut self.homes[home];
        let known = home.clusters.entry(name.clone()).or_insert_with(|| Known {
            data: [0].into(),
            ..Known::default()
        });
        match command {
            Command::Save(snapshot) => {
                let data = known.data.clone();
                known.snapshots.entry(snapshot.clone()).or_insert(data);
            }
            Command::Restore(snapshot) => {
                let saved = known.snapshots.get(snapshot).cloned().unwrap_or_default();
                match completed {
                    true => known.data = saved,
                    false => known.data.extend(saved),
                }
            }
            Command::DeleteSnapshot(snapshot) if completed => {
                known.snapshots.remove(snapshot);
            }
            Command::Delete if !completed => {
                known.data.insert(0);
            }
            Command::Fork { new, from } => {
                let data = match from {
                    None => known.data.clone(),
                    Some(from) => known.snapshots.get(from).cloned().unwrap_or_default(),
                };
                let exists = home.operator.store.profile_dir(new).profile().exists();
                let fork = Known {
                    data,
                    ..Known::default()
                };
                if completed {
                    home.clusters.insert(new.clone(), fork);
                } else if exists {
                    // It was killed, or refused because there is such a cluster.
                    let known = home.clusters.entry(new.clone()).or_default();
                    known.data.extend(fork.data);
                }
            }
            _ => {}
        }
        let store = &home.operator.store;
        home.clusters
            .retain(|name, _| store.profile_dir(name).root().exists());
    }

    fn check_completed(
        &mut self,
        at: usize,
        name: &ProfileName,
        command: &Command,
        was_suspended: bool,
    ) {
        let home = &mut self.homes[at];
        home.dirty &= !command.sweeps(was_suspended);
        let domain = name.resource_name();
        let state = home.operator.complete(|env| {
            let libvirt = env.backend.libvirt(super::world::URI).unwrap();
            libvirt.find(&domain).unwrap().map(|domain| domain.state)
        });
        match command {
            Command::Start { .. } | Command::Resume | Command::AddNode | Command::DeleteNode => {
                assert_eq!(state, Some(State::Running));
                self.check_started(at, name);
            }
            Command::Run { keep: true } => assert_eq!(state, Some(State::Running)),
            Command::Pause => assert_eq!(state, Some(State::Paused)),
            Command::Stop { .. } | Command::Suspend | Command::Restore(_) => {
                assert!(state.is_none_or(|state| !state.is_active()), "{state:?}");
            }
            Command::Delete | Command::Run { keep: false } => {
                assert!(!home.operator.store.profile_dir(name).root().exists());
            }
            _ => {}
        }
        let home = &self.homes[at];
        if matches!(
            command,
            Command::Start { .. } | Command::Fork { .. } | Command::AddNode
        ) {
            invariants::check_ports(&home.operator);
        }
        if !home.dirty && command.changes_volumes() {
            invariants::check_no_garbage(&home.operator);
        }
    }

    /// Checks that a started cluster holds what it should, and lets its user write something.
    fn check_started(&mut self, home: usize, name: &ProfileName) {
        let home = &mut self.homes[home];
        let known = home.clusters.get_mut(name).unwrap();
        let domain = name.resource_name();
        let mut state = self.world.state();
        let key = state.run(&domain).unwrap().host_key.clone();
        let dir = home.operator.store.profile_dir(name);
        let own = fs::read_to_string(dir.host_key().with_extension("pub")).unwrap();
        assert_eq!(*key, *own.trim(), "the node has another cluster's host key");
        let content = state.running(&domain).unwrap();
        let data = content.data;
        assert!(
            known.data.contains(&data),
            "{data} is in it, not {:?}",
            known.data
        );
        self.written += 1;
        content.data = self.written;
        known.data = [self.written].into();
        drop(state);
        assert!(!dir.handover().exists() && !dir.suspended().exists());
        let text = fs::read_to_string(&home.operator.kubeconfig).unwrap();
        let profile = crate::profile::Profile::load(&dir).unwrap().unwrap();
        assert!(text.contains(&profile.server()) || profile.kubeconfig == dir.kubeconfig());
    }

    /// Returns the names of a home's clusters.
    pub(super) fn clusters(&self, home: usize) -> Vec<ProfileName> {
        self.homes[home].operator.store.profile_names().unwrap()
    }

    /// Deletes all that a home has, and checks that nothing is left.
    pub(super) fn clean(&mut self, home: usize) {
        for name in self.clusters(home) {
            // The deletion before it may have removed it, as the remains of a throwaway cluster; then the
            // name can be another home's.
            if !self.clusters(home).contains(&name) {
                continue;
            }
            let (result, _) = self.step(home, &name, &Command::Delete, None);
            result.unwrap().unwrap();
        }
        let name = ProfileName::default();
        let (result, _) = self.step(home, &name, &Command::Prune { every: true }, None);
        result.unwrap().unwrap();
        // A killed command may have left the lock of the user's kubeconfig to the next that changes it. And
        // where another test begins a program, that shares this process's locks for a moment.
        for _ in 0..200 {
            let operator = &self.homes[home].operator;
            let lock = operator.kubeconfig.with_extension("lock");
            if !lock.exists() && !operator.store.home().join("locks").exists() {
                break;
            }
            let (result, _) = self.step(home, &name, &Command::Delete, None);
            result.unwrap().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        invariants::check_gone(&self.homes[home].operator);
    }

    /// Checks that the host is as it was before kubby came.
    pub(super) fn check_untouched(&self) {
        invariants::check_own_kubeconfig(&self.homes[0].operator.kubeconfig);
    }
}
