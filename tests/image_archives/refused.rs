//! Archives that are refused.

use super::*;

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
fn other_files_are_refused_with_the_reason() {
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

/// Returns a good archive with one more entry.
fn with(path: &str, kind: tar::EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in good_files() {
        raw(&mut tar, &path, tar::EntryType::Regular, "", &content);
    }
    raw(&mut tar, path, kind, link, content);
    tar.into_inner().expect("an archive")
}

fn good_files() -> Vec<(String, Vec<u8>)> {
    oci_files(&Image::small("amd64"), Some("demo:1"))
}

#[test]
fn entries_that_play_tricks_are_refused() {
    use tar::EntryType as T;
    // Names and sizes without bounds are among them.
    let long = vec![b'a'; 70_000];
    for (path, kind, content, words) in [
        ("../evil", T::Regular, &b"x"[..], "leads out"),
        ("/etc/passwd", T::Regular, b"x", "leads out"),
        ("blobs/../../evil", T::Regular, b"x", "leads out"),
        ("index.json", T::Regular, b"{}", "twice"),
        ("./index.json", T::Regular, b"{}", "twice"),
        ("././@LongLink", T::GNULongName, &long, "name"),
        ("x", T::GNUSparse, b"", "sparse"),
    ] {
        let archive = with(path, kind, "", content);
        refused(&archive, &request(), Kind::Assets, words);
    }
}

#[test]
fn further_entries_that_do_no_harm_are_not_passed_on() {
    use tar::EntryType as T;
    // The same blob again is sent once.
    let (path, content) = good_files()[2].clone();
    let (result, sent) = pass(&with(&path, T::Regular, "", &content), &request());
    result.expect("passed");
    let blocks = sent.chunks(512);
    let headers = blocks.filter(|block| block.starts_with(path.as_bytes()));
    assert_eq!(headers.count(), 1);
    // Links that lead out are of no use, and devices do not matter here.
    let link = with("out", T::Symlink, "../../etc/shadow", b"");
    let (result, sent) = pass(&link, &request());
    result.expect("passed");
    assert!(!files_of(&sent).contains_key("out"));
    let device = with("dev", T::Char, "", b"");
    pass(&device, &request()).0.expect("passed");
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
fn an_artifact_is_not_an_image() {
    let image = Image::small("amd64");
    let manifest = String::from_utf8(image.manifest()).expect("text");
    let chart = manifest.replace(CONFIG, "application/vnd.cncf.helm.config.v1+json");
    let mut files = image.blobs();
    files.push(blob(chart.clone().into_bytes()));
    files.extend(layout(&[descriptor(MANIFEST, chart.as_bytes())]));
    refused(&tar(&files), &request(), Kind::Assets, "helm");
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
