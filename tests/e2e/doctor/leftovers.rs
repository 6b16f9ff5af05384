//! Leftovers of crashed runs, and things that look like them but are another home's or the user's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kubby::testing::hypervisor::{Hypervisor, Saving};
use kubby::testing::profile::ProfileName;
use kubby::testing::{fsutil, kubeconfig};

use super::place::Place;
use super::{Fault, Undo};

/// No process has this id: it is above what Linux gives.
const DEAD: u32 = 4_200_000;

pub fn all<'a>(place: &'a Place<'_>) -> Vec<Fault<'a>> {
    let cache = place.store.cache();
    let folders = [
        place.store.profiles_dir().join(format!(".fork-{DEAD}")),
        cache.join(format!("components/.staging-{DEAD}-x1")),
        cache.join(format!("components/.making-v1.37.2-{DEAD}")),
        cache.join("node-images/.x86_64-1-ab.x1.tmp"),
        place.dir.snapshots().join("good.partial"),
    ];
    let mut faults: Vec<Fault<'a>> = folders
        .into_iter()
        .map(|folder| {
            let words = folder.display().to_string();
            Fault::new("leftover-folders", words, move || {
                fsutil::create_private_dir(&folder.join("inner")).expect("a folder");
                gone(folder)
            })
            .fixable()
        })
        .collect();
    let config = place.env.kubeconfig();
    let beside = config.parent().expect("a folder").join(".kubby-Ab12Cd");
    for file in [beside, place.dir.pki().join(".kubby-Zz98Yx")] {
        faults.push(
            Fault::new("leftover-files", file.display().to_string(), move || {
                let made = fs::File::create(&file).expect("a file");
                let old = SystemTime::now() - Duration::from_secs(3600);
                made.set_modified(old).expect("a time");
                gone(file)
            })
            .fixable(),
        );
    }
    faults.extend(of_gone_profiles(place));
    faults
}

/// The doctor has taken it away itself.
fn gone<'a>(path: PathBuf) -> Undo<'a> {
    Box::new(move || assert!(!path.exists(), "{} is gone", path.display()))
}

fn of_gone_profiles<'a>(place: &'a Place<'_>) -> Vec<Fault<'a>> {
    let name = place.other_name("gone");
    let resource = name.resource_name();
    let folder = place.store.profile_dir(&name).root().to_owned();
    let channel = place.target().join(format!("{resource}.channel"));
    let seed = format!("{resource}.seed.tar");
    vec![
        Fault::new(
            "leftover-profiles",
            folder.display().to_string(),
            move || {
                fsutil::create_private_dir(&folder).expect("a folder");
                gone(folder)
            },
        )
        .fixable(),
        Fault::new("leftover-domains", resource.clone(), {
            let name = name.clone();
            move || {
                let domain = place.define_domain(&name, &place.env.home(), &place.disk());
                Box::new(move || assert!(!place.has_domain(&domain)))
            }
        })
        .fixable(),
        Fault::new("leftover-contexts", resource, move || {
            install(place, &name, place.env.home());
            Box::new(move || {
                let text = fs::read_to_string(place.env.kubeconfig()).expect("a kubeconfig");
                assert!(!text.contains(&name.resource_name()), "{text}");
            })
        })
        .fixable(),
        Fault::new("leftover-channels", channel.display().to_string(), {
            move || {
                place.libvirt.ensure_channel(&channel).expect("pipes");
                gone(channel.with_extension("channel.in"))
            }
        })
        .fixable(),
        volume(place, "base-dead.qcow2".into()),
        volume(place, "state-0011aabb2233.mem".into()),
        volume(place, seed),
    ]
}

fn volume<'a>(place: &'a Place<'_>, volume: String) -> Fault<'a> {
    Fault::new("leftover-volumes", volume.clone(), move || {
        place.volume(&volume);
        Box::new(move || assert!(!place.volumes().contains(&volume)))
    })
    .fixable()
}

fn install(place: &Place<'_>, name: &ProfileName, home: PathBuf) {
    let entry = place.entry(name, &home, &place.pki());
    kubeconfig::install(&place.env.kubeconfig(), &entry, false).expect("a context");
}

/// Things that no repair may touch.
pub struct Others<'a> {
    place: &'a Place<'a>,
    domain: String,
    context: ProfileName,
    files: Vec<PathBuf>,
    volume: String,
}

/// A domain and a context of another home, a volume of the user's own, a file that is being
/// written, and folders of a process that runs: this one.
pub fn of_others<'a>(place: &'a Place<'a>) -> Others<'a> {
    let name = place.other_name("theirs");
    let me = std::process::id();
    let home = place.env.root().join("their-home");
    install(place, &name, home.clone());
    let volume = "my-own.img".to_owned();
    place.volume(&volume);
    let folders = [
        place.store.profiles_dir().join(format!(".fork-{me}")),
        place
            .store
            .cache()
            .join(format!("components/.staging-{me}-x1")),
    ];
    for folder in &folders {
        fsutil::create_private_dir(folder).expect("a folder");
    }
    let config = place.env.kubeconfig();
    let fresh = config.parent().expect("a folder").join(".kubby-Fr35h1");
    fs::write(&fresh, "").expect("a file");
    Others {
        domain: place.define_domain(&name, &home, Path::new("/nonexistent/their.qcow2")),
        context: name,
        files: folders.into_iter().chain([fresh]).collect(),
        volume,
        place,
    }
}

impl Others<'_> {
    #[track_caller]
    pub fn check(&self) {
        assert!(self.place.has_domain(&self.domain));
        assert!(self.place.volumes().contains(&self.volume));
        let text = fs::read_to_string(self.place.env.kubeconfig()).expect("a kubeconfig");
        assert!(text.contains(&self.context.resource_name()), "{text}");
        for file in &self.files {
            assert!(file.exists(), "{} stays", file.display());
        }
    }

    /// Their cluster comes to have its disk in this home's pool.
    pub fn move_in(&self) {
        let libvirt = &self.place.libvirt;
        libvirt.undefine(&self.domain).expect("libvirt");
        let home = self.place.env.root().join("their-home");
        let disk = self.place.target().join("their.qcow2");
        self.place.define_domain(&self.context, &home, &disk);
    }

    pub fn remove(self) {
        let libvirt = &self.place.libvirt;
        libvirt.undefine(&self.domain).expect("libvirt");
        libvirt
            .delete_volume(&self.place.pool(), &self.volume)
            .expect("libvirt");
        fs::remove_file(self.place.env.kubeconfig()).expect("the kubeconfig");
        for file in &self.files {
            fsutil::remove_all(file).expect("it goes");
        }
    }
}
