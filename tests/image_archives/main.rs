//! Archives of container images: what is accepted, what is passed on, what is refused.

mod archive_samples;

use std::collections::BTreeMap;
use std::io::Read;

use archive_samples::*;
use kubby::error::{Error, Kind};
use kubby::image::Reference;
use kubby::image::archive::{Passed, Request, pass_on};
use serde_json::{Value, json};

fn request() -> Request {
    Request {
        label: "it.tar".into(),
        arch: "amd64".into(),
        ..Request::default()
    }
}

fn reference(text: &str) -> Reference {
    text.parse().expect("a reference")
}

/// Returns the result, and the bytes that were passed on.
fn pass(archive: &[u8], request: &Request) -> (Result<Passed, Error>, Vec<u8>) {
    let mut sent = Vec::new();
    let mut source = archive;
    let result = pass_on(&mut source, request, &mut |data| {
        sent.extend_from_slice(data);
        Ok(())
    });
    (result, sent)
}

#[track_caller]
fn refused(archive: &[u8], request: &Request, kind: Kind, words: &str) -> Error {
    let (result, sent) = pass(archive, request);
    let e = result.expect_err("it is refused");
    assert_eq!(e.kind(), kind, "{e}");
    assert!(e.message().contains(words), "no `{words}` in `{e}`");
    assert!(e.message().contains("it.tar"), "{e}");
    assert!(!e.hints().is_empty(), "{e}");
    assert_without_index(&sent);
    e
}

/// Nothing that was sent could give an image a name.
#[track_caller]
fn assert_without_index(sent: &[u8]) {
    for name in ["index.json", "manifest.json", "oci-layout", "repositories"] {
        let held = sent
            .chunks(512)
            .any(|block| block.starts_with(name.as_bytes()));
        assert!(!held, "{name} was sent");
    }
}

fn files_of(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("entries");
    entries
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a path").to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            (name, content)
        })
        .collect()
}

fn json_of(archive: &[u8], name: &str) -> Value {
    serde_json::from_slice(&files_of(archive)[name]).expect("JSON")
}

#[test]
fn every_format_and_compression_is_understood() {
    let plain = Image::small("amd64");
    let id = plain.id();
    let docker = tar(&docker_files(&plain, &["demo:1", "demo:2"]));
    let oci = tar(&oci_files(&plain, Some("docker.io/library/demo:1")));
    let gz_layers = tar(&oci_files(
        &Image::small("amd64").compressed(gzip),
        Some("demo:1"),
    ));
    let zst_layers = tar(&oci_files(
        &Image::small("amd64").compressed(zstd),
        Some("demo:1"),
    ));
    for archive in [docker, oci, gz_layers, zst_layers] {
        for bytes in [archive.clone(), gzip(&archive), zstd(&archive)] {
            let (result, sent) = pass(&bytes, &request());
            let passed = result.expect("it is passed on");
            assert_eq!(passed.images.len(), 1);
            assert_eq!(passed.images[0].id, id);
            assert!(passed.images[0].names.contains(&reference("demo:1")));
            // What is sent holds every blob of what came, and is a whole archive itself.
            let (again, _) = pass(&sent, &request());
            assert_eq!(
                again.expect("what is sent is an archive").images,
                passed.images
            );
        }
    }
}

#[test]
fn names_are_completed_and_the_index_comes_last() {
    let archive = tar(&docker_files(
        &Image::small("amd64"),
        &["mysql:5.7", "host:5000/a:b"],
    ));
    let (result, sent) = pass(&archive, &request());
    let names = &result.expect("passed").images[0].names;
    assert_eq!(names, &[reference("mysql:5.7"), reference("host:5000/a:b")]);
    let manifest = json_of(&sent, "manifest.json");
    assert_eq!(
        manifest[0]["RepoTags"],
        json!(["docker.io/library/mysql:5.7", "host:5000/a:b"])
    );
    let mut entries = tar::Archive::new(&sent[..]);
    let last = entries
        .entries()
        .expect("entries")
        .last()
        .expect("one")
        .expect("an entry");
    assert_eq!(last.path().expect("a path").to_str(), Some("manifest.json"));
    assert!(!files_of(&sent).contains_key("repositories"));
}

#[test]
fn a_cut_archive_is_never_accepted() {
    let archive = tar(&oci_files(&Image::small("amd64"), Some("demo:1")));
    let older = tar(&docker_files(&Image::small("amd64"), &["demo:1"]));
    for whole in [
        &archive,
        &older,
        &gzip(&archive),
        &zstd(&archive),
        &gzip(&older),
    ] {
        for len in (0..whole.len() - 512)
            .step_by(97)
            .chain(whole.len() - 512..whole.len())
        {
            let (result, sent) = pass(&whole[..len], &request());
            let e = result
                .err()
                .unwrap_or_else(|| panic!("cut at {len} of {}", whole.len()));
            assert_eq!(e.kind(), Kind::Assets, "{len}: {e}");
            // Cut within the last 512 bytes of a plain archive: all was there but the end mark.
            assert_without_index(&sent);
        }
    }
}

#[test]
fn one_wrong_byte_is_noticed() {
    let whole = tar(&oci_files(&Image::small("amd64"), Some("demo:1")));
    let good = pass(&whole, &request()).0.expect("passed").images;
    for place in (0..whole.len() - 1024).step_by(61) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        let (result, _) = pass(&bytes, &request());
        // Padding and the index's white space do not matter; what is accepted is the same image.
        if let Ok(passed) = result {
            assert_eq!(passed.images[0].id, good[0].id, "byte {place}");
        }
    }
    let image = Image::small("amd64");
    let mut files = oci_files(&image, Some("demo:1"));
    files[2].1[700] ^= 1;
    refused(&tar(&files), &request(), Kind::Assets, "the content of");
    let mut files = docker_files(&image, &["demo:1"]);
    files[1].1[700] ^= 1;
    refused(&tar(&files), &request(), Kind::Assets, "the content of");
}

#[test]
fn what_is_no_archive_of_images_is_said_so() {
    let no = "is not an archive of container images";
    for bytes in [
        b"".to_vec(),
        b"hello".to_vec(),
        vec![0xff; 5000],
        vec![0; 10240],
        b"PK\x03\x04 and more".repeat(100),
        gzip(b"just text"),
        layer(&[("etc/passwd", 0o644, b"root")]),
        tar(&layout(&[])),
    ] {
        refused(&bytes, &request(), Kind::Assets, no);
    }
}

#[test]
fn another_platform_is_refused_by_name() {
    let arm = Image::small("arm64");
    for archive in [
        tar(&docker_files(&arm, &["demo:1"])),
        tar(&oci_files(&arm, Some("demo:1"))),
    ] {
        let e = refused(&archive, &request(), Kind::Assets, "linux/arm64");
        assert!(e.message().contains("the node is linux/amd64"), "{e}");
    }
}

/// An index of two platforms; blobs of the other one may be missing, as with `docker save`.
fn two_platforms(with_arm: bool) -> (Image, Vec<(String, Vec<u8>)>) {
    let (amd, arm) = (
        Image::small("amd64"),
        Image::new("arm64", vec![layer(&[])], &["/x"]),
    );
    let entry = |image: &Image, arch: &str| {
        let mut entry = descriptor(MANIFEST, &image.manifest());
        entry["platform"] = json!({"os": "linux", "architecture": arch});
        entry
    };
    let mut proof = descriptor(MANIFEST, b"{}");
    proof["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    proof["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let inner = index(&[entry(&arm, "arm64"), entry(&amd, "amd64"), proof]);
    let mut outer = descriptor(INDEX, &inner);
    outer["annotations"] = json!({"io.containerd.image.name": "docker.io/library/demo:1"});
    let mut files = amd.blobs();
    if with_arm {
        files.extend(arm.blobs());
    }
    files.push(blob(inner));
    files.extend(layout(&[outer]));
    (amd, files)
}

#[test]
fn of_many_platforms_the_nodes_is_taken() {
    for with_arm in [true, false] {
        let (amd, files) = two_platforms(with_arm);
        let (result, sent) = pass(&tar(&files), &request());
        assert_eq!(result.expect("passed").images[0].id, amd.id());
        let index = json_of(&sent, "index.json");
        assert_eq!(index["manifests"][0]["digest"], digest(&amd.manifest()));
    }
    let (_, files) = two_platforms(true);
    let other = Request {
        arch: "riscv64".into(),
        ..request()
    };
    refused(
        &tar(&files),
        &other,
        Kind::Assets,
        "linux/amd64, linux/arm64",
    );
}

#[test]
fn names_can_be_given_and_must_be_where_there_are_none() {
    let nameless = tar(&oci_files(&Image::small("amd64"), None));
    let e = refused(&nameless, &request(), Kind::Usage, "without a name");
    assert!(e.hints()[0].contains("--as NAME"));
    refused(
        &tar(&docker_files(&Image::small("amd64"), &[])),
        &request(),
        Kind::Usage,
        "name",
    );
    let named = Request {
        names: vec![reference("mine:1"), reference("mine:2")],
        ..request()
    };
    for archive in [
        &nameless,
        &tar(&docker_files(&Image::small("amd64"), &["other:1"])),
    ] {
        let names = pass(archive, &named).0.expect("passed").images[0]
            .names
            .clone();
        assert_eq!(names, named.names);
    }
    let also = Request {
        also: Some(reference("app")),
        ..request()
    };
    let podman = tar(&docker_files(
        &Image::small("amd64"),
        &["localhost/app:latest"],
    ));
    let names = pass(&podman, &also).0.expect("passed").images[0]
        .names
        .clone();
    assert_eq!(names, [reference("app"), reference("localhost/app")]);
    let bad = tar(&docker_files(&Image::small("amd64"), &["Not A Name"]));
    refused(&bad, &request(), Kind::Assets, "not an image name");
}

#[test]
fn names_of_two_images_are_kept_apart() {
    let (one, two) = (
        Image::small("amd64"),
        Image::new("amd64", vec![layer(&[])], &["/x"]),
    );
    let entry = |image: &Image, name: &str| {
        let mut entry = descriptor(MANIFEST, &image.manifest());
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        entry
    };
    let make = |first: &str, second: &str| {
        let mut files = one.blobs();
        files.extend(two.blobs());
        files.extend(layout(&[entry(&one, first), entry(&two, second)]));
        tar(&files)
    };
    let passed = pass(&make("a:1", "b:1"), &request()).0.expect("passed");
    assert_eq!(passed.images.len(), 2);
    refused(
        &make("a:1", "a:1"),
        &request(),
        Kind::Assets,
        "several images",
    );
    // A bare tag is not a name.
    refused(
        &make("latest", "v2"),
        &request(),
        Kind::Usage,
        "without a name",
    );
    let named = Request {
        names: vec![reference("c:1")],
        ..request()
    };
    refused(&make("a:1", "b:1"), &named, Kind::Usage, "2 images");
}

#[test]
fn newer_dockers_names_are_found_in_their_second_index() {
    let image = Image::small("amd64");
    let mut files = oci_files(&image, None);
    let manifest = json!([{
        "Config": format!("blobs/sha256/{}", hex(&image.config)),
        "RepoTags": ["demo:3"],
        "Layers": [],
    }]);
    files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    let passed = pass(&tar(&files), &request()).0.expect("passed");
    assert_eq!(passed.images[0].names, [reference("demo:3")]);
}

#[test]
fn missing_blobs_and_wrong_sizes_are_noticed() {
    let files = oci_files(&Image::small("amd64"), Some("demo:1"));
    for gone in 0..4 {
        let mut files = files.clone();
        files.remove(gone);
        refused(&tar(&files), &request(), Kind::Assets, "missing");
    }
    let image = Image::small("amd64");
    let mut entry = descriptor(MANIFEST, &image.manifest());
    entry["size"] = json!(1);
    let mut files = image.blobs();
    files.extend(layout(&[entry]));
    refused(&tar(&files), &request(), Kind::Assets, "instead of 1");
}

#[test]
fn blobs_that_the_node_has_are_checked_and_not_sent() {
    let image = Image::small("amd64");
    let archive = tar(&oci_files(&image, Some("demo:1")));
    let has = Request {
        present: [digest(&image.layers[1])].into(),
        ..request()
    };
    let (result, sent) = pass(&archive, &has);
    assert_eq!(result.expect("passed").spared, image.layers[1].len() as u64);
    let files = files_of(&sent);
    assert!(files.contains_key(&blob(image.layers[0].clone()).0));
    assert!(!files.contains_key(&blob(image.layers[1].clone()).0));
}

#[test]
fn entries_that_play_tricks_are_refused() {
    let good = oci_files(&Image::small("amd64"), Some("demo:1"));
    let with = |path: &str, kind: tar::EntryType, link: &str, content: &[u8]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in &good {
            raw(&mut tar, path, tar::EntryType::Regular, "", content);
        }
        raw(&mut tar, path, kind, link, content);
        tar.into_inner().expect("an archive")
    };
    use tar::EntryType as T;
    for path in ["../evil", "/etc/passwd", "blobs/../../evil"] {
        refused(
            &with(path, T::Regular, "", b"x"),
            &request(),
            Kind::Assets,
            "leads out",
        );
    }
    refused(
        &with("index.json", T::Regular, "", b"{}"),
        &request(),
        Kind::Assets,
        "twice",
    );
    refused(
        &with("./index.json", T::Regular, "", b"{}"),
        &request(),
        Kind::Assets,
        "twice",
    );
    // The same blob again does no harm, and is sent once.
    let (path, content) = good[2].clone();
    let (result, sent) = pass(&with(&path, T::Regular, "", &content), &request());
    result.expect("passed");
    let times = sent
        .chunks(512)
        .filter(|b| b.starts_with(path.as_bytes()))
        .count();
    assert_eq!(times, 1);
    // Links that lead out are of no use, and devices do not matter here.
    let (result, sent) = pass(
        &with("out", T::Symlink, "../../etc/shadow", b""),
        &request(),
    );
    result.expect("passed");
    assert!(!files_of(&sent).contains_key("out"));
    pass(&with("dev", T::Char, "", b""), &request())
        .0
        .expect("passed");
    // Names and sizes without bounds.
    let long = vec![b'a'; 70_000];
    refused(
        &with("././@LongLink", T::GNULongName, "", &long),
        &request(),
        Kind::Assets,
        "name",
    );
    refused(
        &with("x", T::GNUSparse, "", b""),
        &request(),
        Kind::Assets,
        "sparse",
    );
}

#[test]
fn a_huge_index_is_refused_before_it_is_kept() {
    let mut files = oci_files(&Image::small("amd64"), Some("demo:1"));
    let last = files.len() - 2;
    files[last].1.extend(vec![b' '; 2 << 20]);
    refused(&tar(&files), &request(), Kind::Assets, "the most is");
    // A manifest beyond the bound, and JSON without end in many small files.
    let image = Image {
        config: [&b"{"[..], &vec![b' '; 2 << 20], b"}"].concat(),
        layers: vec![],
    };
    refused(
        &tar(&oci_files(&image, Some("a:1"))),
        &request(),
        Kind::Assets,
        "at most",
    );
    let many: Vec<(String, Vec<u8>)> = (0..20)
        .map(|n| {
            (
                format!("{n}.json"),
                [&b"{"[..], &vec![b' '; 1 << 20][1..]].concat(),
            )
        })
        .collect();
    refused(&tar(&many), &request(), Kind::Assets, "too much JSON");
    let deep = "[".repeat(100_000);
    let files = [("manifest.json".to_owned(), deep.into_bytes())];
    refused(&tar(&files), &request(), Kind::Assets, "not as expected");
}

#[test]
fn an_index_within_itself_ends() {
    // No blob can hold its own digest, but a chain can be long.
    let image = Image::small("amd64");
    let mut files = image.blobs();
    let mut entry = descriptor(MANIFEST, &image.manifest());
    for _ in 0..10 {
        let inner = index(&[entry]);
        entry = descriptor(INDEX, &inner);
        files.push(blob(inner));
    }
    files.extend(layout(&[entry]));
    refused(&tar(&files), &request(), Kind::Assets, "hold one another");
}

#[test]
fn an_artifact_is_no_image() {
    let image = Image::small("amd64");
    let manifest = String::from_utf8(image.manifest()).expect("text");
    let chart = manifest.replace(CONFIG, "application/vnd.cncf.helm.config.v1+json");
    let mut files = image.blobs();
    files.push(blob(chart.clone().into_bytes()));
    files.extend(layout(&[descriptor(MANIFEST, chart.as_bytes())]));
    refused(&tar(&files), &request(), Kind::Assets, "helm");
}

#[test]
fn long_names_and_links_of_older_dockers_are_followed() {
    let image = Image::small("amd64");
    let config = format!("{}.json", hex(&image.config));
    let mut tar = tar::Builder::new(Vec::new());
    raw(
        &mut tar,
        &config,
        tar::EntryType::Regular,
        "",
        &image.config,
    );
    raw(
        &mut tar,
        "one/layer.tar",
        tar::EntryType::Regular,
        "",
        &image.layers[0],
    );
    raw(
        &mut tar,
        "two/layer.tar",
        tar::EntryType::Regular,
        "",
        &image.layers[1],
    );
    raw(
        &mut tar,
        "three/layer.tar",
        tar::EntryType::Symlink,
        "../one/layer.tar",
        b"",
    );
    let manifest = json!([{
        "Config": config, "RepoTags": ["demo:1"],
        "Layers": ["three/layer.tar", "two/layer.tar"],
    }]);
    let mut header = tar::Header::new_ustar();
    let manifest = manifest.to_string().into_bytes();
    header.set_size(manifest.len() as u64);
    header.set_mode(0o644);
    tar.append_pax_extensions([("path", &b"./manifest.json"[..]), ("comment", b"x")])
        .expect("an extension");
    header.as_ustar_mut().expect("a header").name[..4].copy_from_slice(b"abcd");
    header.set_cksum();
    tar.append(&header, &manifest[..]).expect("an entry");
    let (result, sent) = pass(&tar.into_inner().expect("an archive"), &request());
    result.expect("passed");
    assert_eq!(
        json_of(&sent, "manifest.json")[0]["Layers"][0],
        "one/layer.tar"
    );
}

#[test]
fn zstd_that_wants_too_much_memory_is_refused() {
    let archive = tar(&oci_files(&Image::small("amd64"), Some("demo:1")));
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(27).expect("a window");
    std::io::Write::write_all(&mut encoder, &archive).expect("data");
    let bytes = encoder.finish().expect("an end");
    refused(&bytes, &request(), Kind::Assets, "window");
}
