//! Damages a cluster, or makes it as an earlier version did.

use std::fs;
use std::path::Path;

use kubby::testing::kubeconfig;

use crate::ownership::home::{Home, KEY, domain_name};
use crate::ownership::maker::Maker;
use crate::ownership::situations::Situation;

impl<'a> Maker<'a> {
    /// Damages a good cluster of the terminal's home.
    pub fn damage(&mut self, situation: Situation, home: &Home<'a>) {
        let name = self.name();
        let dir = home.dir(&name);
        let domain = domain_name(&name);
        let config = self.config();
        let users = format!(
            "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts:\n- name: {domain}\n  \
             context: {{cluster: c, user: u}}\n"
        );
        match situation {
            Situation::ProfileDamaged => fs::write(dir.profile(), "version =").expect("it"),
            Situation::ProfileMissing => remove(&dir.profile()),
            Situation::ProfileNewer => fs::write(dir.profile(), "version = 99\n").expect("it"),
            Situation::HalfWritten => half_written(home, &name),
            Situation::NoVolumes => {
                remove(&home.target.join(format!("{domain}.disk-1.qcow2")));
                remove(&home.target.join(format!("{domain}.seed.tar")));
            }
            Situation::NoPoolFolder => self.gone.push(home.target.clone()),
            Situation::RelativeKubeconfig => {
                self.case
                    .variables
                    .retain(|(name, _)| *name != "KUBECONFIG");
                self.case.variables.push(("KUBECONFIG", "config".into()));
            }
            Situation::PoolOff => self.virsh.push(format!("pool-destroy {}", home.pool)),
            Situation::NoPool => {
                let pool = &home.pool;
                self.virsh.push(format!("pool-destroy {pool}"));
                self.virsh.push(format!("pool-undefine {pool}"));
            }
            Situation::UsersContext => fs::write(config, users).expect("a kubeconfig"),
            Situation::OtherHomesContext => {
                let mut entry = home.entry(&name);
                entry.owner.home.clone_from(&self.case.other);
                remove(&config);
                kubeconfig::install(&config, &entry, true).expect("the context");
            }
            Situation::KubeconfigDamaged => fs::write(config, "clusters: [\n  - {\n").expect("it"),
            _ => {}
        }
        let foreign = [
            Situation::UsersContext,
            Situation::OtherHomesContext,
            Situation::KubeconfigDamaged,
        ];
        if foreign.contains(&situation) {
            self.case
                .own
                .folders
                .retain(|path| !path.ends_with("config"));
        }
    }

    /// Makes a cluster with a profile file of version 2, and a pool without a mark.
    pub fn earlier_cluster(&mut self, home: &Home<'a>) {
        let name = self.name();
        let profile = self.cluster(home, &name);
        remove(&home.target.join("kubby-home"));
        let node = profile.first();
        let text = format!(
            "version = 2\nkubby = \"0.1.0\"\nname = \"{name}\"\nuuid = \"{}\"\nconnect = \"{}\"\n\
             acceleration = \"tcg\"\nkubernetes_version = \"v1.37.2\"\ncpus = 1\nmemory_mib = 2048\n\
             disk_mib = 6144\ndisk = \"{}\"\naddons = []\nkubeconfig = \"{}\"\n\n[assets]\n\
             node_image = \"{KEY}\"\ncomponents = \"{KEY}\"\npause_image = \"\"\nkubectl = \"\"\n\n\
             [ports]\nssh = 39002\napi = 39001\n",
            node.uuid,
            self.actor.uri,
            node.disk,
            self.config().display(),
        );
        fs::write(home.dir(&name).profile(), text).expect("a profile");
    }
}

pub fn remove(file: &Path) {
    fs::remove_file(file).expect("a file");
}

/// Leaves what processes that were killed while they wrote have left.
fn half_written(home: &Home<'_>, name: &str) {
    let dir = home.dir(name);
    let left = [
        dir.root().join(".kubby-AbCdEf"),
        dir.pki().join(".kubby-GhIjKl"),
        dir.snapshots().join("late.partial/manifest.json"),
        home.path.join("profiles/.fork-999999999/profile.toml"),
        home.path.join("templates/late.partial/manifest.json"),
    ];
    for file in left {
        fs::create_dir_all(file.parent().expect("a folder")).expect("it");
        fs::write(file, "half").expect("a file");
    }
}
