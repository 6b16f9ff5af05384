//! Makes situations: homes, volumes, pools and domains, some of them damaged.

use std::fs;
use std::path::{Path, PathBuf};

use kubby::testing::kubeconfig;
use kubby::testing::profile::Profile;

use crate::ownership::actor::Actor;
use crate::ownership::damage::remove;
use crate::ownership::home::{Home, KEY, Mark, Patterns, domain_name};
use crate::ownership::seen::Watched;
use crate::ownership::situations::{Case, Situation};

/// Makes the parts of a situation.
pub struct Maker<'a> {
    pub actor: &'a Actor<'a>,
    patterns: &'a Patterns,
    user: u32,
    pub case: Case<'a>,
    pub virsh: Vec<String>,
    /// Folders to remove when libvirt knows them.
    pub gone: Vec<PathBuf>,
}

impl<'a> Maker<'a> {
    /// Begins with an empty folder.
    pub fn new(actor: &'a Actor<'a>, patterns: &'a Patterns, profile: &str, user: u32) -> Self {
        let root = actor.root.join(profile);
        fs::create_dir(&root).expect("a folder");
        actor.own(&root);
        let case = Case {
            actor,
            root: root.clone(),
            profile: profile.into(),
            variables: vec![("KUBECONFIG", root.join("config").into())],
            home: root.join("home"),
            other: root.join("other/kubby"),
            own: Watched::default(),
            watched: Watched::default(),
        };
        let mut maker = Maker {
            actor,
            patterns,
            user,
            case,
            virsh: Vec::new(),
            gone: Vec::new(),
        };
        maker.case.watched.folders.push(root);
        maker.case.watched.domains.push(domain_name(profile));
        maker
    }

    /// Makes the situation.
    pub fn make(mut self, situation: Situation) -> Case<'a> {
        self.add(situation);
        self.finish()
    }

    fn root(&self) -> PathBuf {
        self.case.root.clone()
    }

    pub fn config(&self) -> PathBuf {
        self.root().join("config")
    }

    pub fn name(&self) -> String {
        self.case.profile.clone()
    }

    fn home(&mut self, path: PathBuf) -> Home<'a> {
        let home = Home::new(self.actor, self.patterns, path);
        self.watch(&home);
        home
    }

    fn earlier(&mut self, path: PathBuf, pool: String) -> Home<'a> {
        let home = Home::earlier(self.actor, self.patterns, path, pool);
        self.watch(&home);
        home
    }

    fn watch(&mut self, home: &Home<'a>) {
        self.case.watched.pools.push(home.pool.clone());
        self.case.watched.folders.push(home.target.clone());
    }

    /// Declares that the terminal's home is this one.
    fn use_home(&mut self, home: &Home<'a>) {
        let config = self.config();
        let own = &mut self.case.own;
        own.folders = vec![home.path.clone(), home.target.clone(), config];
        own.pools.push(home.pool.clone());
        own.domains.push(domain_name(&self.case.profile));
        self.case.home.clone_from(&home.path);
        let value = self.case.home.clone().into();
        self.case.variables.push(("KUBBY_HOME", value));
    }

    /// Makes the files, the volumes, a template and a snapshot of a cluster, and its context.
    fn files(&mut self, home: &Home<'a>, name: &str) -> Profile {
        kubeconfig::install(&self.config(), &home.entry(name), true).expect("the context");
        self.without_context(home, name)
    }

    fn without_context(&mut self, home: &Home<'a>, name: &str) -> Profile {
        let profile = home.profile(name, &self.config());
        home.base();
        home.mark(&home.path, self.user);
        home.volumes(name);
        let template = home.path.join("templates").join(KEY);
        let frozen = format!("{}.disk-0.qcow2", domain_name(name));
        home.saved(&template, &profile, &frozen);
        let snapshot = home.dir(name).snapshots().join("good");
        home.saved(&snapshot, &profile, &frozen);
        profile
    }

    /// Defines the domain of a cluster as kubby does.
    fn domain(&mut self, home: &Home<'a>, profile: &Profile) {
        let name = profile.name.as_str();
        let mark = Mark {
            home: &home.path,
            profile: name,
        };
        let disk = home.target.join(&profile.first().disk);
        let define = home.define(name, &profile.first().uuid, Some(mark), &disk);
        self.virsh.push(define);
    }

    /// Makes a cluster that kubby has nothing to object to.
    pub fn cluster(&mut self, home: &Home<'a>, name: &str) -> Profile {
        let profile = self.files(home, name);
        self.virsh.extend(home.define_pool(&home.target));
        self.domain(home, &profile);
        profile
    }

    fn start(&mut self) {
        self.virsh
            .push(format!("start {}", domain_name(&self.case.profile)));
    }

    fn add(&mut self, situation: Situation) {
        let name = self.name();
        let other = self.case.other.clone();
        match situation {
            Situation::OtherDataHome | Situation::OtherKubbyHome | Situation::SameNames => {
                self.beside_another_home(situation);
            }
            Situation::NoHome => {
                let home = self.case.home.join("deep/er");
                self.case.home.clone_from(&home);
                self.case.variables.push(("KUBBY_HOME", home.into()));
            }
            Situation::Written(how) => self.written(how),
            Situation::Unmarked => {
                let home = self.home(self.case.home.clone());
                self.use_home(&home);
                self.case.own.domains.clear();
                self.foreign_domain(&home, None);
            }
            Situation::UnmarkedDomain | Situation::OtherProfile | Situation::OtherUuid => {
                self.with_foreign_domain(situation);
            }
            Situation::PoolElsewhere
            | Situation::PoolOfOtherHome
            | Situation::PoolOfOtherHomeOff
            | Situation::PoolOfOtherUser
            | Situation::PoolUnmarkedForeign
            | Situation::PoolUnmarked => self.with_foreign_pool(situation),
            Situation::Earlier => {
                let path = self.case.home.clone();
                let pool = earlier_pool(&path);
                let home = self.earlier(path, pool);
                self.use_home(&home);
                self.earlier_cluster(&home);
            }
            Situation::EarlierByAnotherVariable => {
                let home = self.earlier(other, "kubby".into());
                self.use_home(&home);
                self.earlier_cluster(&home);
            }
            _ => {
                let home = self.home(self.case.home.clone());
                self.use_home(&home);
                self.cluster(&home, &name);
                self.damage(situation, &home);
            }
        }
    }

    fn beside_another_home(&mut self, situation: Situation) {
        let name = self.name();
        let home = self.home(self.case.other.clone());
        self.cluster(&home, &name);
        match situation {
            Situation::OtherDataHome => {
                let data = self.root().join("data");
                self.case.home = data.join("kubby");
                self.case.variables.push(("XDG_DATA_HOME", data.into()));
            }
            Situation::OtherKubbyHome => {
                let own = self.home(self.case.home.clone());
                self.use_home(&own);
                self.case.own.domains.clear();
                let further = format!("{name}-x");
                self.cluster(&own, &further);
                self.case.watched.domains.push(domain_name(&further));
                self.case.own.domains.push(domain_name(&further));
                self.start();
            }
            _ => {
                let own = self.home(self.case.home.clone());
                self.use_home(&own);
                self.case.own.domains.clear();
                self.case
                    .own
                    .folders
                    .retain(|path| !path.ends_with("config"));
                self.without_context(&own, &name);
                self.virsh.extend(own.define_pool(&own.target));
                self.start();
            }
        }
    }

    fn written(&mut self, how: &str) {
        let name = self.name();
        let home = self.home(self.root().join("home"));
        self.use_home(&home);
        self.cluster(&home, &name);
        self.start();
        let root = self.root();
        std::os::unix::fs::symlink(root.join("home"), root.join("link")).expect("a link");
        let path = format!("{}{how}", root.display());
        self.case
            .variables
            .retain(|(name, _)| *name != "KUBBY_HOME");
        self.case.variables.push(("KUBBY_HOME", path.into()));
    }

    /// Defines a domain of the cluster's name that is not the cluster's.
    fn foreign_domain(&mut self, home: &Home<'a>, mark: Option<Mark<'_>>) {
        let disk = self.root().join("theirs.qcow2");
        fs::write(&disk, "a disk\n").expect("a disk");
        let uuid = uuid::Uuid::new_v4().to_string();
        let define = home.define(&self.case.profile, &uuid, mark, &disk);
        self.virsh.push(define);
    }

    fn with_foreign_domain(&mut self, situation: Situation) {
        let name = self.name();
        let home = self.home(self.case.home.clone());
        self.use_home(&home);
        self.files(&home, &name);
        self.virsh.extend(home.define_pool(&home.target));
        self.case.own.domains.clear();
        let further = format!("{name}-x");
        let mark = |profile| {
            Some(Mark {
                home: &home.path,
                profile,
            })
        };
        let mark = match situation {
            Situation::UnmarkedDomain => None,
            Situation::OtherProfile => mark(further.as_str()),
            _ => mark(name.as_str()),
        };
        self.foreign_domain(&home, mark);
    }

    fn with_foreign_pool(&mut self, situation: Situation) {
        let name = self.name();
        let home = self.home(self.case.home.clone());
        self.use_home(&home);
        let profile = self.files(&home, &name);
        self.domain(&home, &profile);
        home.volume("kubby-theirs.disk-1.qcow2");
        match situation {
            Situation::PoolElsewhere => {
                self.case.other = self.root().join("elsewhere");
                fs::create_dir(&self.case.other).expect("a folder");
                let theirs = self
                    .case
                    .other
                    .join(format!("{}.disk-1.qcow2", domain_name(&name)));
                fs::write(theirs, "a disk\n").expect("a disk");
                self.virsh.extend(home.define_pool(&self.case.other));
            }
            _ => self.virsh.extend(home.define_pool(&home.target)),
        }
        match situation {
            Situation::PoolOfOtherHome => home.mark(&self.case.other, self.user),
            Situation::PoolOfOtherHomeOff => {
                home.mark(&self.case.other, self.user);
                self.virsh.push(format!("pool-destroy {}", home.pool));
            }
            Situation::PoolOfOtherUser => home.mark(&home.path, self.user + 1),
            Situation::PoolUnmarked => remove(&home.target.join("kubby-home")),
            Situation::PoolUnmarkedForeign => {
                remove(&home.target.join("kubby-home"));
                let further = format!("{name}-x");
                let mark = Mark {
                    home: &self.case.other,
                    profile: &further,
                };
                let disk = home.target.join("kubby-theirs.disk-1.qcow2");
                let uuid = uuid::Uuid::new_v4().to_string();
                self.virsh
                    .push(home.define(&further, &uuid, Some(mark), &disk));
                self.case.watched.domains.push(domain_name(&further));
            }
            _ => {}
        }
        if situation != Situation::PoolUnmarked {
            self.case.own.pools.clear();
            self.case.own.folders.retain(|path| *path != home.target);
        }
    }

    /// Gives the files to the user and has virsh make the rest.
    fn finish(mut self) -> Case<'a> {
        self.actor.own(&self.root());
        self.virsh.push("version".into());
        let run = self.actor.virsh(&self.virsh).ok();
        assert_eq!(run.stderr, "", "virsh {:?}", self.virsh);
        for folder in &self.gone {
            fs::remove_dir_all(folder).expect("a folder");
        }
        self.case.watched.domains.dedup();
        self.case
    }
}

/// Returns the name that versions before the record gave the pool of a home by `KUBBY_HOME`.
fn earlier_pool(home: &Path) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(home.as_os_str().as_encoded_bytes());
    let short: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("kubby-{short}")
}
