//! End to end: real libvirt, real virtual machines, a real Kubernetes, the real kubectl.
//!
//! `scripts/test` runs this with what it needs; as a plain `cargo test` it boots nothing. By hand:
//!
//! ```text
//! KUBBY_E2E=1 cargo test --test e2e                    all groups
//! KUBBY_E2E=1 cargo test --test e2e -- '[saving]'      one group
//! KUBBY_E2E=1 cargo test --test e2e -- a_pod_runs      one test, with what it needs
//! ```
//!
//! `KUBBY_E2E_LONG=1` adds the tests that take many minutes. With `KUBBY_E2E_KEEP=FOLDER` the home
//! there and its template stay for the next run, whose clusters then start in seconds.

#![expect(clippy::print_stderr, reason = "timings are for the reader of the log")]

#[macro_use]
mod program;
#[macro_use]
mod group;

#[path = "../archive_samples/mod.rs"]
mod archive_samples;
mod bad_input;
mod bundle;
mod certs;
mod cluster;
mod control_planes;
mod dashboard;
mod doctor;
mod egress;
mod env;
mod exercises;
mod failures;
mod faults;
mod image;
mod images;
mod kubectl;
mod lifecycle;
mod looking;
mod nodes;
mod ordinary;
mod outside;
mod ownership;
mod saving;
mod services;
mod threat_model;
mod throwaway;
mod tidy;
mod trust;
mod user;

use libtest_mimic::Arguments;

use group::Group;

/// In an order in which the first start of all, which is a cold one, is what is tested.
static GROUPS: &[Group] = &[
    Group::new("templates", &[saving::templates::TESTS]),
    Group::new("input", &[bad_input::TESTS]).with_own_home(),
    Group::new("doctor", &[doctor::TESTS]).with_own_home(),
    Group::new("ownership", &[ownership::commands::TESTS]).with_own_home(),
    Group::new("failures", &[failures::TESTS, exercises::plugins::ALONE]),
    Group::new(
        "node",
        &[
            lifecycle::STARTED,
            looking::TESTS,
            cluster::TESTS,
            doctor::RUNNING,
            dashboard::TESTS,
            trust::host::TESTS,
        ],
    )
    .with_cluster(),
    Group::new(
        "network",
        &[
            services::TESTS,
            kubectl::TESTS,
            trust::network::TESTS,
            egress::TESTS,
            exercises::plugins::TESTS,
        ],
    )
    .with_cluster(),
    Group::new(
        "images",
        &[
            images::load::TESTS,
            images::bad::TESTS,
            images::build::TESTS,
        ],
    )
    .with_cluster(),
    Group::new(
        "applications",
        &[
            exercises::images::TESTS,
            exercises::database::TESTS,
            exercises::workloads::TESTS,
            exercises::runtime::TESTS,
            exercises::policies::TESTS,
            exercises::addons::TESTS,
            exercises::database::LATER,
            saving::fork::TESTS,
            lifecycle::STOPPED,
            exercises::database::LAST,
        ],
    )
    .with_cluster(),
    Group::new(
        "nodes",
        &[
            nodes::TESTS,
            nodes::links::TESTS,
            nodes::changes::TESTS,
            nodes::saved::TESTS,
        ],
    )
    .with_own_home(),
    Group::new("control-planes", control_planes::TESTS),
    Group::new("matrix", &[faults::matrix::TESTS]),
    Group::new("crowd", &[faults::crowd::TESTS]),
    Group::new(
        "disrupted",
        &[faults::disrupted::TESTS, faults::power::TESTS],
    )
    .with_cluster(),
    Group::new("certs", &[certs::TESTS]).with_cluster(),
    Group::new(
        "run",
        &[throwaway::TESTS, bundle::TESTS, trust::secrets::TESTS],
    ),
    Group::new("saving", &[saving::states::TESTS, saving::killed::TESTS]).with_cluster(),
    Group::new(
        "portable",
        &[saving::portable::TESTS, saving::copies::TESTS],
    )
    .with_cluster(),
    Group::new("ordinary", &[ordinary::TESTS]).ends(ordinary::end),
];

fn main() {
    let args = Arguments::from_args();
    if std::env::var_os("KUBBY_E2E").is_none_or(|v| v != "1") {
        eprintln!(
            "The end-to-end tests boot virtual machines: scripts/test runs them, or KUBBY_E2E=1."
        );
        libtest_mimic::run(&args, vec![threat_model::are_listed(GROUPS)]).exit();
    }
    group::run(&args, GROUPS).exit();
}
