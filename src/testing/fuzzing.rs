//! The parsers of foreign input, as functions of bytes, for `fuzz/` and `tests/fuzz_smoke.rs`, which
//! give them bytes of every kind. They may refuse them, but not panic, not loop endlessly, and not
//! accept anything that breaks an assumption of the code behind them.

use std::io::Cursor;
use std::path::{Component, Path, PathBuf};

use crate::assets::components::archive;
use crate::assets::download;
use crate::assets::node_image::{manifest as image_manifest, qcow2};
use crate::cluster::saved::state::Saved;
use crate::cluster::saved::template_file::{Place, header};
use crate::hypervisor::{console, saved_stream};
use crate::image::{Reference, archive as images};
use crate::kubeconfig::{self, Entry, Owner};
use crate::profile::Profile;
use crate::ui;

/// A target's name, which its corpus' folder in `fuzz/corpus` has, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 10] = [
    ("kubeconfig", kubeconfig),
    ("profile", profile),
    ("checksums", checksums),
    ("image_archive", image_archive),
    ("image_reference", image_reference),
    ("release_archive", release_archive),
    ("template_header", template_header),
    ("manifests", manifests),
    ("saved_stream", saved_stream),
    ("node_output", node_output),
];

/// Merges and removes an entry of a kubeconfig of the user.
///
/// # Panics
/// Here and below: when accepted input breaks an assumption.
pub fn kubeconfig(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let entry = Entry {
        name: "kubby".into(),
        server: "https://127.0.0.1:6443".into(),
        ca_pem: "CA".into(),
        client_cert_pem: "CERT".into(),
        client_key_pem: "KEY".into(),
        owner: Owner {
            profile: "kubby".into(),
            home: "/home/u/.kubby".into(),
        },
    };
    let _ = kubeconfig::inspect(Some(text), &entry);
    let Ok(merged) = kubeconfig::merge(Some(text), &entry, true) else {
        return;
    };
    let status = kubeconfig::inspect(Some(&merged), &entry).expect("what was merged is read");
    assert_eq!(status.state, kubeconfig::State::Configured, "{merged}");
    assert!(status.current, "{merged}");
    let again = kubeconfig::merge(Some(&merged), &entry, true).expect("it is merged again");
    assert_eq!(again, merged, "a second merge changes nothing");
    let removed = kubeconfig::remove(&merged, "kubby", &entry.owner).expect("it is removed");
    let removed = removed.expect("there is something to remove");
    let status = kubeconfig::inspect(Some(&removed), &entry).expect("what is left is read");
    assert_eq!(status.state, kubeconfig::State::Missing, "{removed}");
}

/// Reads a profile's file.
pub fn profile(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(profile) = Profile::parse(text) else {
        return;
    };
    assert!(is_plain(profile.name.as_str()), "{}", profile.name);
    let again = toml::to_string_pretty(&profile).expect("it is written again");
    assert_eq!(Profile::parse(&again).expect("and read"), profile);
    let _ = (profile.first().uuid(), profile.version());
}

/// Reads a checksum file of a download.
pub fn checksums(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(sum) = download::sha256_of(&text, "kubectl") {
        assert!(download::is_sha256(&sum), "{sum}");
        assert_eq!(sum, sum.to_ascii_lowercase());
    }
    let shown = download::printable(&text);
    assert!(!shown.contains('?'), "{shown}");
}

/// Reads an archive of container images that a user loads.
pub fn image_archive(bytes: &[u8]) {
    let request = images::Request {
        label: "a.tar".into(),
        arch: "amd64".into(),
        ..images::Request::default()
    };
    for bytes in [bytes.to_vec(), with_checksums(bytes)] {
        let _ = images::pass_on(&mut bytes.as_slice(), &request, &mut |_| Ok(()));
    }
}

/// Reads a name of an image, which archives and Dockerfiles hold.
pub fn image_reference(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(reference) = text.parse::<Reference>() {
        let whole = reference.to_string();
        assert_eq!(whole.parse().as_ref(), Ok(&reference), "{whole}");
        let _ = (reference.familiar(), reference.is_always_pulled());
        assert!(whole.chars().all(|c| c.is_ascii_graphic()), "{whole:?}");
    }
}

/// Unpacks a release's tarball: nothing is written but the one wanted program.
pub fn release_archive(bytes: &[u8]) {
    let dir = tempfile::tempdir().expect("a folder");
    let wanted = [("e/etcd".to_owned(), dir.path().join("in/out"))];
    std::fs::create_dir(dir.path().join("in")).expect("a folder");
    for bytes in [bytes.to_vec(), with_checksums(bytes)] {
        let fail = || "cannot unpack".to_owned();
        let _ = archive::extract_from(bytes.as_slice(), &fail, &wanted);
    }
    let names = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).expect("the folder");
        entries.map(|e| e.expect("an entry").path()).collect()
    };
    assert_eq!(names(dir.path()).len(), 1);
    let written = names(&dir.path().join("in"));
    assert!(written.iter().all(|p| p.ends_with("out")));
}

/// Reads the first member of a template from another host.
pub fn template_header(bytes: &[u8]) {
    let mut member = tar::Header::new_gnu();
    member.set_size(bytes.len() as u64);
    let mut alone = tar::Builder::new(Vec::new());
    let made = alone.append_data(&mut member, header::HEADER, bytes);
    let alone = made.and_then(|()| alone.into_inner()).expect("an archive");
    for bytes in [alone, bytes.to_vec(), with_checksums(bytes)] {
        let mut archive = tar::Archive::new(bytes.as_slice());
        let Ok(mut entries) = archive.entries() else {
            continue;
        };
        let Ok(header) = header::read(&mut entries, "a.tar") else {
            continue;
        };
        let assets = &header.saved.profile.assets;
        let parts = header.parts().map(|saved| saved.node().to_owned());
        let mut names: Vec<String> = parts.collect();
        names.extend([&header.key, &assets.node_image, &assets.components].map(String::clone));
        for name in names {
            assert!(is_plain(&name), "{name}");
        }
        for member in &header.members {
            let place = Place::of(&member.path).expect("each has its place");
            if let Place::Beside(path) | Place::NodeImage(path) | Place::Components(path) = place {
                assert!(path.components().all(|c| matches!(c, Component::Normal(_))));
            }
        }
    }
}

/// Reads the manifests of saved states and node images, and a disk's header.
pub fn manifests(bytes: &[u8]) {
    if let Ok(saved) = serde_json::from_slice::<Saved>(bytes) {
        let again = serde_json::to_vec(&saved).expect("it is written again");
        assert_eq!(serde_json::from_slice::<Saved>(&again).ok(), Some(saved));
    }
    let _ = serde_json::from_slice::<image_manifest::Manifest>(bytes);
    for backing in [qcow2::Backing::None, qcow2::Backing::Replaced] {
        if let Ok(size) = qcow2::parse(bytes, backing) {
            assert!((1..=1 << 40).contains(&size), "{size}");
        }
    }
}

/// Reads and copies a machine's saved memory.
pub fn saved_stream(bytes: &[u8]) {
    let mut stream = Cursor::new(bytes);
    let Ok(layout) = saved_stream::layout(&mut stream) else {
        return;
    };
    assert!(layout.pages + layout.length <= bytes.len() as u64);
    let mut devices = Cursor::new(Vec::new());
    saved_stream::write_devices(&mut stream, &layout, &mut devices).expect("it is copied");
    assert_eq!(devices.get_ref().len(), bytes.len());
    let again = saved_stream::layout(&mut devices).expect("it is read again");
    assert_eq!(again, layout);
}

/// Shows text of a node, from its console and elsewhere, without anything that a terminal obeys.
pub fn node_output(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!console::tail(&text, 20).contains(obeyed));
    assert!(!ui::visible(&text).contains(obeyed));
    let state = console::scan(&text);
    if let Some(trouble) = state.trouble {
        assert!(!trouble.message().contains(obeyed), "{trouble:?}");
    }
}

/// Returns whether a text can be a part of a file's name.
fn is_plain(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !name.is_empty() && name.bytes().all(good)
}

/// Returns the bytes as a tar archive whose headers have the right checksums, so that changes of a
/// header are not all found by its checksum.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + 512) {
        if block.iter().all(|b| *b == 0) {
            break;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = block[124..136].iter().filter(|b| b.is_ascii_digit());
        let size = digits.fold(0usize, |n, b| n.wrapping_mul(8) + usize::from(b & 7));
        let data = size.checked_next_multiple_of(512);
        let Some(next) = data.and_then(|data| (at + 512).checked_add(data)) else {
            break;
        };
        at = next;
    }
    bytes
}
