//! The end of templates, in the home of another host that has imported it: a template that was cut is
//! made again, copies of one that was deleted run on, and in the end nothing is left.

use std::fs::FileTimes;
use std::time::SystemTime;

use serde_json::Value;

use super::portable::{elsewhere, imported, rest};
use super::templates::{file, problem};
use super::{
    delete, folder, has_mark, healthy, host, kubectl, mark, named, pool, pool_folder, start,
    state_files, template,
};
use crate::env::{Env, uri};
use crate::group::Test;

pub const TESTS: &[Test] = tests![
    a_cut_template_is_made_again,
    a_copy_lives_on_without_its_template,
    delete_leaves_nothing,
];

/// Meanwhile the group's cluster rests, some minutes, and runs on as if nothing had been.
fn a_cut_template_is_made_again(env: &Env) {
    rest(env);
    let other = imported(env);
    // What runs on its memory would not survive this.
    other.kubby(&["delete", "--all"]).ok();
    let memory = file(&other, "mem");
    let open = std::fs::File::options().write(true).open(&memory);
    open.and_then(|file| file.set_len(1 << 20)).expect("a cut");
    problem(&other, "is cut");
    let name = named(&other, "c");
    let (run, result) = start(&other, &name);
    assert_eq!(result["fromTemplate"], false, "{result}");
    let run = run.says("cannot be used and is removed").says("is cut");
    run.says("Save a warm template");
    assert!(!memory.exists(), "{} is gone", memory.display());
    assert_eq!(template(&other)["problem"], Value::Null);
    healthy(&other, &name);

    env.kubby(&["resume"]).ok();
    healthy(env, &env.profile);
    compare_beginnings([(env, &env.profile), (&other, &name)]);
    delete(&other, &name);
}

/// Compares clusters of two cold starts: what every API server and its controllers make alike comes
/// with the components; what makes a cluster the one that it is does not.
fn compare_beginnings(clusters: [(&Env, &str); 2]) {
    let uid = |(env, profile): (&Env, &str), namespace: &str, object: &str| {
        let path = "jsonpath={.metadata.uid}";
        let query = ["get", "-n", namespace, object, "-o", path];
        let uid = kubectl(env, profile, &query).ok().stdout;
        assert_eq!(uid.len(), 36, "{object}: {uid}");
        uid
    };
    for (namespace, object, alike) in [
        ("default", "clusterrole/cluster-admin", true),
        ("default", "apiservice/v1.apps", true),
        ("kube-system", "serviceaccount/node-controller", true),
        ("kube-system", "serviceaccount/default", false),
        ("default", "namespace/kube-system", false),
        ("default", "service/kubernetes", false),
    ] {
        let [here, there] = clusters.map(|cluster| uid(cluster, namespace, object));
        assert_eq!(here == there, alike, "{object}");
    }
    // An account that is alike still belongs to its cluster alone: each signs with its own key.
    let [here, there] = clusters;
    let account = ["create", "token", "-n", "kube-system", "node-controller"];
    let token = kubectl(there.0, there.1, &account).ok().stdout;
    let file = here.0.root().join("review.json");
    let review = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token.trim()},
    });
    std::fs::write(&file, review.to_string()).expect("a file");
    let file = file.to_string_lossy();
    for ((env, profile), known) in [(there, Value::Bool(true)), (here, Value::Null)] {
        let create = ["create", "-f", &file, "-o", "json"];
        let answer = kubectl(env, profile, &create).ok().json();
        assert_eq!(answer["status"]["authenticated"], known, "{answer}");
    }
}

/// Its boot is one from a disk that changed while the cluster was suspended.
fn a_copy_lives_on_without_its_template(env: &Env) {
    rest(env);
    let other = imported(env);
    let name = named(&other, "b");
    let (_, result) = start(&other, &name);
    assert_eq!(result["fromTemplate"], true, "{result}");
    mark(&other, &name, "early");
    let key = template(&other)["key"].as_str().expect("a key").to_owned();
    other.kubby(&["template", "delete", &key[..6]]).ok();
    other
        .kubby(&["template", "list"])
        .ok()
        .prints("There are no warm templates");
    healthy(&other, &name);
    assert!(has_mark(&other, &name, "early"));

    other.kubby_on(&name, &["suspend"]).ok();
    assert_eq!(host(&other, &name), "Suspended");
    let manifest = folder(&other, &name).join("suspended/manifest.json");
    let saved = std::fs::read_to_string(manifest).expect("the manifest");
    let saved: Value = serde_json::from_str(&saved).expect("JSON");
    let disk = pool_folder(&other).join(saved["disk"].as_str().expect("a name"));
    let disk = std::fs::File::options().write(true).open(disk);
    let times = FileTimes::new().set_modified(SystemTime::now());
    disk.and_then(|disk| disk.set_times(times))
        .expect("a touch");
    let (run, result) = start(&other, &name);
    note!(
        "an ordinary boot of a copy: {:.1} s",
        run.took.as_secs_f64()
    );
    assert_eq!(result["fromTemplate"], false, "{result}");
    run.says("was changed since").says("boots from its disk");
    healthy(&other, &name);
    assert!(has_mark(&other, &name, "early"));
    // It maps the template's memory no more, so that goes with the next command that looks.
    other.kubby(&["template", "prune"]).ok();
    assert_eq!(state_files(&other), Default::default());
}

fn delete_leaves_nothing(env: &Env) {
    rest(env);
    let other = elsewhere(env);
    let name = named(&other, "b");
    if !folder(&other, &name).exists() {
        imported(env);
        start(&other, &name);
    }
    // This home's own pool: the host may have those of other homes.
    let own = pool(&other);
    let there = || {
        let pools = other.virsh(&["pool-list", "--all", "--name"]).ok().stdout;
        pools.lines().any(|name| name.trim() == own)
    };
    assert!(there(), "the pool {own} is there before");
    other.kubby_on(&name, &["delete"]).ok();
    // Templates are no cluster's: they stay until they are deleted themselves.
    other.kubby(&["template", "prune", "--all"]).ok();
    assert!(!other.home().exists(), "{} is gone", other.home().display());
    let domains = other.virsh(&["list", "--all", "--name"]).ok().stdout;
    assert!(!domains.contains(&format!("kubby-{name}")), "{domains}");
    assert!(!there(), "the pool {own} is gone");
    if uri() == "qemu:///system" {
        let folder = format!("/var/lib/libvirt/images/{own}");
        assert!(!std::path::Path::new(&folder).exists(), "{folder} is gone");
    }
    let text = std::fs::read_to_string(other.kubeconfig()).expect("the user's kubeconfig");
    assert!(
        text.contains("# the one at work") && text.contains("name: work"),
        "{text}"
    );
    assert!(!text.contains("kubby"), "{text}");
    // Again, and nothing to do is no error.
    other.kubby_on(&name, &["delete"]).ok();
    let status = ["status", "-o", "json"];
    other.kubby_on(&name, &status).ok().prints("Nonexistent");
    other.kubby_on(&name, &["status", "--exit-code"]).exits(15);
}
