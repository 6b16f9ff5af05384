//! NetworkPolicies, which most tutorials begin with one that denies everything.

use super::{LIMIT, apply_busybox, delete, wait_for};
use crate::env::Env;
use crate::group::Test;
use crate::program::eventually;

pub const TESTS: &[Test] = tests![policies_hold];

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: guarded}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: guarded, labels: {app: web}}
spec:
  containers:
  - name: c
    image: BUSYBOX
    command: [sh, -c, 'mkdir /w; echo hi > /w/index.html; exec httpd -f -p 8080 -h /w']
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 2}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: guarded}
spec: {clusterIP: 10.96.8.8, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: friend, namespace: guarded, labels: {app: friend}}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: BUSYBOX, command: [sleep, '3600']}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: guarded}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: BUSYBOX, command: [sleep, '3600']}]}
";

const DENY_ALL: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: guarded}
spec: {podSelector: {}, policyTypes: [Ingress]}
";

const ALLOW_FRIEND: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-friend, namespace: guarded}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: friend}}}]
    ports: [{port: 8080}]
";

/// Waits until a pod reaches the web server by its Service, or until it does not. By its address: busybox crashes
/// with `wget -T`, and where wget looks up a name.
fn reaches(env: &Env, pod: &str, whether: bool) {
    let get = "timeout 4 wget -qO- http://10.96.8.8/";
    let ask = ["exec", "-n", "guarded", pod, "--", "sh", "-c", get];
    let what = format!("{pod} reaches the web server: {whether}");
    eventually(LIMIT, &what, || {
        let run = env.kubectl(&ask);
        let reached = run.code == 0 && run.stdout == "hi\n";
        // Packets that are dropped are waited for until `timeout` ends wget.
        let dropped = run.code == 143;
        match if whether { reached } else { dropped } {
            true => Ok(()),
            false => Err(format!("{} {} {}", run.code, run.stdout, run.stderr)),
        }
    });
}

fn policies_hold(env: &Env) {
    let pods = apply_busybox(env, "guarded", PODS);
    for pod in ["web", "friend", "stranger"] {
        wait_for(
            env,
            "condition=Ready",
            &["-n", "guarded", &format!("pod/{pod}")],
        );
    }
    reaches(env, "stranger", true);
    let deny = apply_busybox(env, "deny-all", DENY_ALL);
    reaches(env, "stranger", false);
    reaches(env, "friend", false);
    let allow = apply_busybox(env, "allow-friend", ALLOW_FRIEND);
    reaches(env, "friend", true);
    reaches(env, "stranger", false);
    // The kubelet's own probes go on.
    wait_for(env, "condition=Ready", &["-n", "guarded", "pod/web"]);

    // What decides dies: nothing is open that was closed, and all is as before soon.
    let kill = "pkill -KILL -x kube-network-po";
    env.kubby(&["ssh", "--", kill]).ok();
    reaches(env, "stranger", false);
    reaches(env, "friend", true);

    // Without the add-on nothing is enforced, which doctor and status say.
    env.kubby(&["addon", "disable", "policies"]).ok();
    reaches(env, "stranger", true);
    let status = env.kubby(&["status"]).ok();
    status.prints("warning: 2 NetworkPolicies of ");
    let doctor = env.kubby(&["doctor"]);
    assert!(
        doctor.stdout.contains("are not enforced by kubby"),
        "{}",
        doctor.stdout
    );
    env.kubby(&["addon", "enable", "policies"]).ok();
    let status = env.kubby(&["status"]).ok();
    assert!(!status.stdout.contains("warning"), "{}", status.stdout);
    reaches(env, "stranger", false);
    delete(env, &allow);
    delete(env, &deny);
    reaches(env, "stranger", true);
    delete(env, &pods);
}
