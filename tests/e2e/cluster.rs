//! Exercise 3, repair, and what keeps others out.

use std::time::Duration;

use crate::env::Env;
use crate::group::Test;
use crate::program::eventually;

pub const TESTS: &[Test] = tests![
    kubectl_sees_the_node_as_the_chapter_does,
    a_pod_runs,
    a_second_start_changes_nothing,
    start_repairs_what_is_missing,
    a_missing_process_is_named,
    components_take_settings,
    a_running_machine_is_not_resized,
    strangers_are_kept_out,
    the_hosts_loopback_is_out_of_reach,
];

fn kubectl_sees_the_node_as_the_chapter_does(env: &Env) {
    let context = env.domain();
    env.kubectl(&["config", "use-context", &context]).ok();
    let node = env
        .kubectl(&["get", "node", "kubby", "-o", "json"])
        .ok()
        .json();
    let labels = &node["metadata"]["labels"];
    assert_eq!(labels["node-role.kubernetes.io/control-plane"], "");
    assert_eq!(labels["kubernetes.io/hostname"], "kubby");
    assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "v1.37.2");
    assert!(
        node["status"]["nodeInfo"]["containerRuntimeVersion"]
            .as_str()
            .is_some_and(|v| v.starts_with("containerd://"))
    );
    let describe = env.kubectl(&["describe", "node", "kubby"]).ok();
    for part in [
        "Roles:",
        "control-plane",
        "Labels:",
        "Conditions:",
        "Capacity:",
        "Allocatable:",
        "System Info:",
        "Non-terminated Pods:",
    ] {
        assert!(
            describe.stdout.contains(part),
            "no {part} in\n{}",
            describe.stdout
        );
    }
    let resources = env.kubectl(&["api-resources", "-o", "name"]).ok();
    for name in [
        "pods",
        "deployments.apps",
        "statefulsets.apps",
        "cronjobs.batch",
        "storageclasses.storage.k8s.io",
    ] {
        assert!(
            resources.stdout.lines().any(|l| l == name),
            "no {name} in\n{}",
            resources.stdout
        );
    }
}

fn a_pod_runs(env: &Env) {
    env.kubectl(&["run", "still", "--image=registry.k8s.io/pause:3.10.2"])
        .ok();
    eventually(Duration::from_secs(120), "the pod runs", || {
        let pod = env
            .kubectl(&[
                "get",
                "pod",
                "still",
                "-o",
                "jsonpath={.status.phase} {.status.podIP}",
            ])
            .ok();
        if pod.stdout.starts_with("Running 10.244.0.") {
            Ok(())
        } else {
            Err(format!(
                "{}\n{}",
                pod.stdout,
                env.kubectl(&["describe", "pod", "still"]).stdout
            ))
        }
    });
    env.kubectl(&["delete", "pod", "still", "--wait=true", "--grace-period=1"])
        .ok();
}

fn a_second_start_changes_nothing(env: &Env) {
    let boots = "cat /proc/sys/kernel/random/boot_id; systemctl show -p ExecMainStartTimestampMonotonic etcd kube-apiserver kubelet";
    let before = env.kubby(&["ssh", "--", boots]).ok().stdout;
    let kubeconfig = std::fs::read(env.kubeconfig()).expect("the kubeconfig");
    let run = env.kubby(&["start", "-o", "json"]).ok();
    note!("second start: {:.2} s", run.took.as_secs_f64());
    let result = run.json();
    assert_eq!(result["wasRunning"], true);
    assert_eq!(
        result["changedFiles"].as_array().map(Vec::len),
        Some(0),
        "{result}"
    );
    assert_eq!(env.kubby(&["ssh", "--", boots]).ok().stdout, before);
    assert_eq!(
        std::fs::read(env.kubeconfig()).expect("the kubeconfig"),
        kubeconfig
    );
    let best = (0..5)
        .map(|_| env.kubby(&["start", "-q"]).ok().took)
        .chain([run.took])
        .min()
        .expect("six runs");
    let limit = env.limit_here(Duration::from_secs(3));
    assert!(best < limit, "a second start took {best:?}, not {limit:?}");
}

fn start_repairs_what_is_missing(env: &Env) {
    env.kubby(&["ssh", "--", "rm /etc/kubernetes/scheduler.conf && systemctl stop kube-scheduler && systemctl disable --quiet kubby.target"]).ok();
    std::fs::write(env.kubeconfig(), "").expect("the kubeconfig");
    env.kubby(&["status", "-o", "json"])
        .ok()
        .prints("Misconfigured");
    let result = env.kubby(&["start", "-o", "json"]).ok().json();
    assert_eq!(
        result["changedFiles"][0], "/etc/kubernetes/scheduler.conf",
        "{result}"
    );
    env.kubby(&[
        "ssh",
        "--",
        "systemctl is-enabled kubby.target && pgrep -x kube-scheduler",
    ])
    .ok();
    env.kubby(&["status", "--exit-code"]).ok();
    // The user's own entries are put back by hand, as a user would.
    let ours = std::fs::read_to_string(env.kubeconfig()).expect("the kubeconfig");
    assert!(ours.contains(&env.domain()), "{ours}");
    let mut text = env
        .kubectl(&["config", "view", "--raw", "-o", "json"])
        .ok()
        .json();
    let add = |list: &mut serde_json::Value, item: serde_json::Value| {
        list.as_array_mut().expect("a list").push(item)
    };
    add(
        &mut text["clusters"],
        serde_json::json!({"name": "work", "cluster": {"server": "https://work.example:6443"}}),
    );
    add(
        &mut text["contexts"],
        serde_json::json!({"name": "work", "context": {"cluster": "work", "user": "me"}}),
    );
    add(
        &mut text["users"],
        serde_json::json!({"name": "me", "user": {"token": "abc"}}),
    );
    std::fs::write(
        env.kubeconfig(),
        format!("# the one at work\n# name: work\n{text:#}\n"),
    )
    .expect("the kubeconfig");
    env.kubby(&["status", "--exit-code"]).ok();
}

fn a_missing_process_is_named(env: &Env) {
    // A drop-in of the user's: not kubby's file, so not kubby's to remove.
    let break_it = "mkdir -p /etc/systemd/system/kube-proxy.service.d && \
        printf '[Service]\\nExecStart=\\nExecStart=/bin/sh -c \"echo deliberately broken; exit 1\"\\n' \
        > /etc/systemd/system/kube-proxy.service.d/broken.conf && \
        systemctl daemon-reload && systemctl restart kube-proxy";
    env.kubby(&["ssh", "--", break_it]).ok();
    env.kubby(&["start"])
        .exits(14)
        .says("not running in the node: kube-proxy")
        .says("journal of kube-proxy.service")
        .says("deliberately broken");
    env.kubby(&[
        "ssh",
        "--",
        "rm -r /etc/systemd/system/kube-proxy.service.d && systemctl daemon-reload",
    ])
    .ok();
    env.kubby(&["start"]).ok();
    env.kubby(&["ssh", "--", "pgrep -x kube-proxy"]).ok();
}

/// A setting is in force when `start` ends, a wrong one is named, and both are taken back.
fn components_take_settings(env: &Env) {
    let set = |settings: &[&str]| {
        let flags = settings
            .iter()
            .flat_map(|setting| ["--extra-config", setting]);
        let command: Vec<&str> = ["start"].into_iter().chain(flags).collect();
        env.kubby(&command)
    };
    set(&["kubelet.config=/tmp/a"]).exits(2).says("relies on");
    set(&["kubelet.max-pods=42", "kube-proxy.conntrack.maxPerCore=0"]).ok();
    let pods = || {
        let capacity = "jsonpath={.status.capacity.pods}";
        env.kubectl(&["get", "node", "kubby", "-o", capacity])
            .ok()
            .stdout
    };
    eventually(Duration::from_secs(60), "room for 42 pods", || {
        let pods = pods();
        (pods == "42").then_some(()).ok_or(pods)
    });
    let config = "cat /etc/kubernetes/kube-proxy.json";
    env.kubby(&["ssh", "--", config])
        .ok()
        .prints("\"maxPerCore\": 0");
    set(&["scheduler.no-such-flag=1"])
        .exits(2)
        .says("unknown flag: --no-such-flag");
    set(&["scheduler.no-such-flag-", "kubelet.max-pods=many"])
        .exits(2)
        .says("kubelet does not take");
    env.kubby(&["ssh", "--", "pgrep -x kube-scheduler"]).ok();
    // A value that the program looks at only when it runs.
    let late = "scheduler.tls-min-version=VersionTLS99";
    let mut start = vec!["start", "--timeout", "90"];
    start.extend(["--extra-config", "kubelet.max-pods-"]);
    start.extend(["--extra-config", late]);
    env.kubby(&start)
        .exits(14)
        .says("kube-scheduler")
        .says("unknown tls version");
    set(&[
        "kube-proxy.conntrack.maxPerCore-",
        "scheduler.tls-min-version-",
    ])
    .ok();
    eventually(Duration::from_secs(60), "room for 110 pods", || {
        let pods = pods();
        (pods == "110").then_some(()).ok_or(pods)
    });
    env.kubby(&["status", "--exit-code"]).ok();
}

fn a_running_machine_is_not_resized(env: &Env) {
    env.kubby(&["start", "--cpus", "1"])
        .exits(15)
        .says("kubby stop");
    env.kubby(&["start", "--kubernetes-version", "v1.36.1"])
        .exits(2)
        .says("kubby delete");
}

fn strangers_are_kept_out(env: &Env) {
    let api = env.kubby(&["port", "api"]).ok().stdout.trim().to_owned();
    let curl = |path: &str| {
        let run = env
            .kubby(&[
                "ssh",
                "--",
                &format!("curl -sk -o /dev/null -w '%{{http_code}}' https://127.0.0.1:6443{path}"),
            ])
            .ok();
        run.stdout
    };
    assert_eq!(curl("/readyz"), "200");
    assert_eq!(
        curl("/api"),
        "401",
        "the API at {api} without a certificate"
    );
    // etcd without a client certificate.
    env.kubby(&["ssh", "--", "! curl -sk https://127.0.0.1:2379/version"])
        .ok();
    // Nor by its socket, but for root.
    env.kubby(&["ssh", "--", "stat -c '%a %U' /run/etcd"])
        .ok()
        .prints("700 root");
    let socket = "curl -s --unix-socket /run/etcd/etcd.sock http://localhost/version";
    env.kubby(&["ssh", "--", socket]).ok();
    let stranger = format!("! setpriv --reuid=65534 --clear-groups {socket}");
    env.kubby(&["ssh", "--", &stranger]).ok();
    env.kubby(&[
        "ssh",
        "--",
        "curl -sk -o /dev/null -w '%{http_code}' https://127.0.0.1:10250/pods",
    ])
    .ok()
    .prints("401");
    env.kubby(&["ssh", "--", "stat -c '%a %n' /etc/kubernetes/pki/*.key /etc/kubernetes/*.conf | grep -v '^600 ' | wc -l"]).ok().prints("0");
}

fn the_hosts_loopback_is_out_of_reach(env: &Env) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let run = env.kubby(&[
        "ssh",
        "--",
        &format!("curl -s -m 5 http://10.0.2.2:{port}/"),
    ]);
    assert!(
        run.code == 7 || run.code == 28,
        "curl ended with {}: {}",
        run.code,
        run.stderr
    );
    listener.set_nonblocking(true).expect("nonblocking");
    assert!(
        listener.accept().is_err(),
        "a connection from the guest arrived"
    );
}
