//! Archives of container images: what is accepted, what is passed on, what is refused.

mod accepted;
#[path = "../archive_samples/mod.rs"]
mod archive_samples;
mod refused;

use std::collections::BTreeMap;
use std::io::Read;

use archive_samples::*;
use kubby::testing::error::{Error, Kind};
use kubby::testing::image::Reference;
use kubby::testing::image::archive::{Passed, Request, pass_on};
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
