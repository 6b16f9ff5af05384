//! Add-ons: those of kubby, and folders of the user's own.

use super::images::busybox;
use super::{LIMIT, apply, delete, get, wait_for};
use crate::archive_samples::{Image, MANIFEST, digest, docker_files, tar};
use crate::env::Env;
use crate::group::Test;
use crate::program::eventually;

pub const TESTS: &[Test] = tests![
    default_addons_are_there_and_repaired,
    what_others_changed_is_left_alone,
    kubectl_top_works_with_its_addon,
    the_registry_takes_pushes_from_the_host,
    a_folder_is_an_addon,
    addons_that_make_no_sense_are_refused,
];

fn default_addons_are_there_and_repaired(env: &Env) {
    let list = env.kubby(&["addon", "list", "-o", "json"]).ok().json();
    let state = |name: &str| {
        let all = list["addons"].as_array().expect("add-ons");
        let row = all.iter().find(|a| a["name"] == name);
        row.unwrap_or_else(|| panic!("no {name} in {list}"))["enabled"].clone()
    };
    assert_eq!((state("dns"), state("storage")), (true.into(), true.into()));
    assert_eq!(
        (state("metrics"), state("registry")),
        (false.into(), false.into())
    );
    // What is missing comes back with the next start, also the image.
    env.kubectl(&[
        "delete",
        "-n",
        "kube-system",
        "deployment/coredns",
        "service/kube-dns",
        "--wait",
    ])
    .ok();
    env.kubby(&["start"]).ok();
    assert_eq!(
        get(
            env,
            &["-n", "kube-system", "deployment", "coredns"],
            "{.status.availableReplicas}"
        ),
        "1"
    );
    assert_eq!(
        get(
            env,
            &["-n", "kube-system", "service", "kube-dns"],
            "{.spec.clusterIP}"
        ),
        "10.96.0.10"
    );
}

fn what_others_changed_is_left_alone(env: &Env) {
    let dns = ["-n", "kube-system", "deployment/coredns"];
    env.kubectl(&[
        "scale",
        "-n",
        "kube-system",
        "deployment/coredns",
        "--replicas=2",
    ])
    .ok();
    env.kubby(&["start"]).ok().says("changed by another client");
    assert_eq!(get(env, &dns, "{.spec.replicas}"), "2");
    env.kubby(&["addon", "enable", "--force", "dns"]).ok();
    assert_eq!(get(env, &dns, "{.spec.replicas}"), "1");
    // From then on it is kubby's again.
    let again = env.kubby(&["start"]).ok();
    assert!(
        !again.stderr.contains("changed by another client"),
        "{}",
        again.stderr
    );
}

fn kubectl_top_works_with_its_addon(env: &Env) {
    env.kubby(&["addon", "enable", "metrics"]).ok();
    eventually(LIMIT, "kubectl top shows the node", || {
        let top = env.kubectl(&["top", "nodes", "--no-headers"]);
        if top.code == 0 && top.stdout.starts_with("kubby ") {
            Ok(())
        } else {
            Err(format!("{}{}", top.stdout, top.stderr))
        }
    });
    // Pods come one by one, as the kubelet has seen them twice.
    eventually(LIMIT, "kubectl top shows all pods", || {
        let top = env.kubectl(&["top", "pods", "-n", "kube-system"]);
        if top.code == 0 && top.stdout.contains("kubby-storage") {
            Ok(())
        } else {
            Err(format!("{}{}", top.stdout, top.stderr))
        }
    });
    env.kubby(&["addon", "disable", "metrics"]).ok();
    env.kubectl(&["get", "apiservice", "v1beta1.metrics.k8s.io"])
        .exits(1);
    env.kubectl(&["get", "-n", "kube-system", "deployment/metrics-server"])
        .exits(1);
    env.kubby(&["addon", "disable", "metrics"])
        .ok()
        .says("not enabled");
}

fn the_registry_takes_pushes_from_the_host(env: &Env) {
    env.kubby(&["addon", "enable", "registry"]).ok();
    let url = env
        .kubby(&["service", "registry", "-n", "kube-system", "--url"])
        .ok()
        .stdout;
    let url = url.trim();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    push(url, "pushed", "1", busybox());
    let path = apply(
        env,
        "pushed",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: pushed}\nspec:\n  restartPolicy: Never\n  containers:\n  \
         - {name: c, image: 'localhost:5000/pushed:1', imagePullPolicy: Always, command: [echo, pulled]}\n",
    );
    wait_for(env, "jsonpath={.status.phase}=Succeeded", &["pod/pushed"]);
    env.kubectl(&["logs", "pushed"]).ok().prints("pulled");
    delete(env, &path);
    env.kubby(&["addon", "disable", "registry"]).ok();
}

/// Pushes an image as `docker push` does.
fn push(url: &str, name: &str, tag: &str, image: &Image) {
    let agent = ureq::Agent::new_with_defaults();
    let parts = image.layers.iter().chain([&image.config]);
    for part in parts {
        let begun = agent
            .post(format!("{url}/v2/{name}/blobs/uploads/"))
            .send_empty()
            .expect("an upload");
        let location = begun.headers()["location"].to_str().expect("a location");
        let place = match location.strip_prefix('/') {
            Some(path) => format!("{url}/{path}"),
            None => location.to_owned(),
        };
        let mark = if place.contains('?') { '&' } else { '?' };
        let digest = digest(part).replace(':', "%3A");
        agent
            .put(format!("{place}{mark}digest={digest}"))
            .content_type("application/octet-stream")
            .send(&part[..])
            .expect("a blob");
    }
    agent
        .put(format!("{url}/v2/{name}/manifests/{tag}"))
        .content_type(MANIFEST)
        .send(&image.manifest()[..])
        .expect("a manifest");
}

fn a_folder_is_an_addon(env: &Env) {
    let folder = env.root().join("greeter");
    std::fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
    write("addon.toml", "description = \"Says hello\"\n");
    write(
        "crd.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: greetings.example.com}\nspec:\n  group: example.com\n  scope: Namespaced\n  names: {kind: Greeting, plural: greetings, singular: greeting}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}\n",
    );
    // In a file that comes before the definition, in a namespace that comes after.
    write(
        "a.yaml",
        "apiVersion: example.com/v1\nkind: Greeting\nmetadata: {name: hello, namespace: greetings}\ntext: hello\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: old, namespace: greetings}\n",
    );
    write(
        "z.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: greetings}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: greeter, namespace: greetings}\nspec:\n  selector: {matchLabels: {app: greeter}}\n  template:\n    metadata: {labels: {app: greeter}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers: [{name: c, image: 'greeter:1', command: [sleep, '3600']}]\n",
    );
    // It brings the image of its pod along.
    std::fs::create_dir(folder.join("images")).expect("a folder");
    let image = tar(&docker_files(busybox(), &["greeter:1"]));
    std::fs::write(folder.join("images/greeter.tar"), image).expect("an archive");
    let path = format!("{}/", folder.display());
    env.kubby(&["addon", "enable", &path]).ok();
    env.kubectl(&["get", "greeting", "hello", "-n", "greetings"])
        .ok();
    assert_eq!(
        get(
            env,
            &["-n", "greetings", "deployment", "greeter"],
            "{.status.availableReplicas}"
        ),
        "1"
    );
    env.kubby(&["addon", "list"]).ok().prints("Says hello");
    // What a newer version of it no longer has goes.
    write(
        "a.yaml",
        "apiVersion: example.com/v1\nkind: Greeting\nmetadata: {name: hello, namespace: greetings}\ntext: goodbye\n",
    );
    env.kubby(&["addon", "enable", &path]).ok();
    env.kubectl(&["get", "configmap", "old", "-n", "greetings"])
        .exits(1);
    assert_eq!(
        get(env, &["-n", "greetings", "greeting", "hello"], "{.text}"),
        "goodbye"
    );
    env.kubby(&["addon", "disable", "greeter"]).ok();
    env.kubectl(&["get", "namespace", "greetings"]).exits(1);
    env.kubectl(&["get", "crd", "greetings.example.com"])
        .exits(1);
    let list = env.kubby(&["addon", "list"]).ok();
    assert!(!list.stdout.contains("greeter"), "{}", list.stdout);
}

fn addons_that_make_no_sense_are_refused(env: &Env) {
    env.kubby(&["addon", "enable", "dsn"])
        .exits(2)
        .says("there are dns");
    env.kubby(&["addon", "disable", "dsn"])
        .exits(2)
        .says("there is no add-on named `dsn`");
    env.kubby(&["addon", "enable", "./no-such-folder"]).exits(2);
    let folder = env.root().join("broken");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = format!("{}/", folder.display());
    env.kubby(&["addon", "enable", &path])
        .exits(2)
        .says("no manifests");
    std::fs::write(folder.join("x.yaml"), "kind: Pod\nmetadata: {name: a}\n").expect("a file");
    env.kubby(&["addon", "enable", &path])
        .exits(2)
        .says("x.yaml")
        .says("no apiVersion");
    // The cluster itself refuses it: its words are shown, and nothing of it stays enabled.
    std::fs::write(
        folder.join("x.yaml"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}\n",
    )
    .expect("a file");
    env.kubby(&["addon", "enable", &path])
        .exits(14)
        .says("99999");
    let list = env.kubby(&["addon", "list"]).ok();
    assert!(!list.stdout.contains("broken"), "{}", list.stdout);
    env.kubby(&["start", "-p", "nope", "--addon", "dsn"])
        .exits(2)
        .says("there are dns");
}
