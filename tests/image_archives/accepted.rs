//! Archives that are passed on.

use super::*;

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
fn names_can_be_given_and_have_to_be_where_there_are_none() {
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
