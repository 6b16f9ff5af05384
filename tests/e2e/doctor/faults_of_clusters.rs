//! Faults of a cluster: its profile, machine, certificates and context.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kubby::testing::{fsutil, pki};
use time::OffsetDateTime;

use super::place::{Place, spec};
use super::{Fault, Undo, nothing};

pub fn all<'a>(place: &'a Place<'_>) -> Vec<Fault<'a>> {
    let kubeconfig = place.env.kubeconfig();
    let port = place.profile.api_port();
    let elsewhere = place.env.root().join("another-kubeconfig");
    vec![
        Fault::new("clusters", "is damaged", move || {
            replaced(&place.dir.profile(), |_| "version =\n".into())
        }),
        Fault::new("clusters", "newer kubby", move || {
            replaced(&place.dir.profile(), |_| "version = 99\n".into())
        }),
        Fault::new("clusters", "not defined in libvirt", move || {
            undefined(place)
        }),
        Fault::new("certificates", "scheduler ends on", move || {
            certificate(place, 340)
        }),
        Fault::new("certificates", "scheduler ended on", move || {
            certificate(place, 400)
        }),
        Fault::new("certificates", "etcd/server.crt is missing", move || {
            let file = place.dir.pki().join("etcd/server.crt");
            let text = fs::read(&file).expect("a certificate");
            fs::remove_file(&file).expect("it goes");
            Box::new(move || fsutil::write_atomic(&file, &text, 0o600).expect("it"))
        }),
        Fault::new("templates", "format 99", move || {
            let folder = place.store.templates_dir().join("0123");
            fsutil::create_private_dir(&folder).expect("a folder");
            fs::write(folder.join("manifest.json"), "{\"format\": 99}").expect("a file");
            Box::new(move || fs::remove_dir_all(folder.parent().expect("it")).expect("it"))
        }),
        Fault::new("kubeconfig", "is missing", {
            let file = kubeconfig.clone();
            move || {
                fs::write(&file, "apiVersion: v1\nkind: Config\n").expect("it");
                nothing()
            }
        })
        .fixable(),
        Fault::new("kubeconfig", "another server", {
            let file = kubeconfig.clone();
            move || {
                let other = |text: String| text.replace(&format!(":{port}"), ":1");
                drop(replaced(&file, other));
                nothing()
            }
        })
        .fixable(),
        Fault::new("kubeconfig", "cannot be edited", {
            let file = kubeconfig.clone();
            move || replaced(&file, |_| "clusters: {\n".into())
        }),
        Fault::new("kubeconfig", "is locked", {
            let mut lock = kubeconfig.into_os_string();
            lock.push(".lock");
            move || locked(lock.into())
        }),
        Fault::new("kubeconfig", "does not read in this shell", nothing)
            .under("KUBECONFIG", elsewhere.display().to_string()),
    ]
}

/// Changes a file's text, and brings it back.
fn replaced<'a>(file: &Path, change: impl Fn(String) -> String) -> Undo<'a> {
    let file = file.to_owned();
    let text = fs::read_to_string(&file).expect("a file");
    let new = change(text.clone());
    assert_ne!(new, text);
    fs::write(&file, new).expect("the file");
    Box::new(move || fs::write(&file, text).expect("the file"))
}

fn undefined<'a>(place: &'a Place<'_>) -> Undo<'a> {
    let domain = place.domain();
    let xml = place.env.root().join("domain.xml");
    let text = place.env.virsh(&["dumpxml", &domain]).ok().stdout;
    fs::write(&xml, text).expect("a file");
    place.env.virsh(&["undefine", &domain]).ok();
    Box::new(move || {
        let file = xml.display().to_string();
        place.env.virsh(&["define", &file]).ok();
    })
}

/// The scheduler's certificate as it would have been made so many days ago.
fn certificate<'a>(place: &'a Place<'_>, days: i64) -> Undo<'a> {
    let then = OffsetDateTime::now_utc() - time::Duration::days(days);
    let copy = place.env.root().join("old-pki");
    fsutil::copy_private(&place.dir.pki(), &copy).expect("a copy");
    pki::ensure(&copy, &spec(then)).expect("keys");
    let file = place.dir.pki().join("scheduler.crt");
    let good = fs::read(&file).expect("a certificate");
    let old = fs::read(copy.join("scheduler.crt")).expect("a certificate");
    assert_ne!(good, old);
    fs::remove_dir_all(&copy).expect("the copy goes");
    fsutil::write_atomic(&file, &old, 0o600).expect("a certificate");
    Box::new(move || fsutil::write_atomic(&file, &good, 0o600).expect("a certificate"))
}

/// A lock whose process is gone.
fn locked<'a>(lock: PathBuf) -> Undo<'a> {
    let file = fs::File::create(&lock).expect("a lock");
    let old = SystemTime::now() - Duration::from_secs(3600);
    file.set_modified(old).expect("a time");
    Box::new(move || fs::remove_file(lock).expect("the lock goes"))
}
