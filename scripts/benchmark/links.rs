//! Measures the network between pods of two nodes: the application's pod on one node fetches from that on another.

use std::fs;
use std::time::Duration;

use kubby::testing::error::{Error, Kind, Result, ResultExt};
use kubby::testing::interrupt;
use serde::Deserialize;

use crate::sample::{Sample, Unit};
use crate::site::Site;

const MANIFEST: &str = include_str!("app/links.yaml");

/// How often the pods are asked until both of them run.
const ATTEMPTS: u32 = 60;

/// What the application says about its way to another pod.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Way {
    /// The median of connecting, in milliseconds.
    connect: f64,
    /// MiB in a second, of one connection.
    throughput: f64,
}

/// Measures the way between pods of two nodes, and for comparison the one between pods of one node.
///
/// # Errors
/// When the pods do not run in time, or do not reach each other.
pub fn between(site: &Site, profile: &str, round: u32) -> Result<Sample> {
    let file = site.root().join("links.yaml");
    fs::write(&file, MANIFEST).context(Kind::Internal, || {
        format!("cannot write {}", file.display())
    })?;
    let path = file.to_string_lossy();
    let kubectl = |args: &[&str]| site.kubby(profile, &[&["kubectl", "--"], args].concat());
    kubectl(&["apply", "-f", &path])?;
    kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=300s",
        "pod/link-1",
        "pod/link-2",
        "pod/link-3",
    ])?;
    let mut sample = Sample::new("pods of two nodes", round);
    for (to, pods) in [("link-2", "two nodes"), ("link-3", "one node")] {
        let address = kubectl(&["get", "pod", to, "-o", "jsonpath={.status.podIP}"])?;
        let raw = format!(
            "/api/v1/namespaces/default/pods/link-1:8080/proxy/way?to={}:8080",
            address.trim()
        );
        let way = ask(|| kubectl(&["get", "--raw", &raw]))?;
        let of = |what: &str| format!("{pods}: {what}");
        sample.quantity(&of("connect"), Unit::Milliseconds, way.connect);
        sample.quantity(&of("throughput"), Unit::MebibytesPerSecond, way.throughput);
    }
    kubectl(&["delete", "--wait=false", "-f", &path])?;
    Ok(sample)
}

/// Asks until there is an answer: a pod counts as ready before its program listens.
fn ask(question: impl Fn() -> Result<String>) -> Result<Way> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match question() {
            Ok(answer) => {
                return serde_json::from_str(&answer)
                    .context(Kind::Unhealthy, || format!("the application says {answer}"));
            }
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => last = Some(e),
        }
        interrupt::sleep(Duration::from_secs(1))?;
    }
    Err(last.unwrap_or_else(|| Error::new(Kind::Unhealthy, "no answer")))
}
