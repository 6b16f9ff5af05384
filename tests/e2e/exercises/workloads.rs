//! Exercise 4 and what a conformance suite asks of pods.

use super::{LIMIT, apply_busybox, delete, exec, get, rolled_out, wait_for};
use crate::env::Env;
use crate::group::Test;
use crate::program::eventually;

pub const TESTS: &[Test] = tests![
    five_replicas_heal_and_roll,
    a_pod_of_many_parts_runs,
    limits_are_kept,
    volumes_fit_their_pods,
    a_claim_beyond_the_disk_says_so,
];

const FIVE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: BUSYBOX
        command: [sh, -c, 'mkdir /tmp/www; echo $VERSION > /tmp/www/index.html; exec httpd -f -h /tmp/www']
        env: [{name: VERSION, value: one}]
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 2}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
";

fn five_replicas_heal_and_roll(env: &Env) {
    let path = apply_busybox(env, "web", FIVE);
    rolled_out(env, "deployment/web");
    assert_eq!(
        get(env, &["deployment", "web"], "{.status.readyReplicas}"),
        "5"
    );

    // It heals itself.
    let pods = get(env, &["pods", "-l", "app=web"], "{.items[*].metadata.name}");
    let first = pods.split(' ').next().expect("a pod").to_owned();
    env.kubectl(&["delete", "pod", &first]).ok();
    rolled_out(env, "deployment/web");
    let pods = get(env, &["pods", "-l", "app=web"], "{.items[*].metadata.name}");
    assert!(!pods.contains(&first), "{pods}");

    env.kubectl(&["scale", "deployment/web", "--replicas=2"])
        .ok();
    eventually(LIMIT, "two are left", || {
        let pods = get(env, &["pods", "-l", "app=web"], "{.items[*].metadata.name}");
        if pods.split_whitespace().count() == 2 {
            Ok(())
        } else {
            Err(pods)
        }
    });

    // And rolls to a new version, which the Service then serves.
    env.kubectl(&["set", "env", "deployment/web", "VERSION=two"])
        .ok();
    rolled_out(env, "deployment/web");
    let address = get(env, &["service", "web"], "http://{.spec.clusterIP}/");
    eventually(LIMIT, "the new version is served", || {
        let answer = exec(env, "deployment/web", &["wget", "-qO-", &address]);
        if answer.trim() == "two" {
            Ok(())
        } else {
            Err(answer)
        }
    });
    env.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    rolled_out(env, "deployment/web");
    delete(env, &path);
}

const PARTS: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: parts
  labels: {colour: blue}
  annotations: {note: hello}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  initContainers:
  - name: init
    image: BUSYBOX
    command: [sh, -c, 'echo from-init > /work/file']
    volumeMounts: [{name: work, mountPath: /work}]
  containers:
  - name: main
    image: BUSYBOX
    command:
    - sh
    - -euc
    - |
      cat /work/file
      echo name=$POD_NAME node=$NODE_NAME ip=$POD_IP cpu=$CPU_LIMIT
      cat /info/labels; echo
      cat /info/annotations; echo
      id
      stat -c '%g %a' /work
      grep -i ^seccomp: /proc/self/status
      test $(wc -c < /token/token) -gt 100 && echo token-is-there
      httpd -p 80 -h /work
      echo port-80: $(wget -qO- http://127.0.0.1/file)
      echo pings: $(cat /proc/sys/net/ipv4/ping_group_range)
    env:
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: CPU_LIMIT, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
    volumeMounts:
    - {name: work, mountPath: /work}
    - {name: info, mountPath: /info}
    - {name: token, mountPath: /token, readOnly: true}
  volumes:
  - {name: work, emptyDir: {}}
  - name: info
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: annotations, fieldRef: {fieldPath: metadata.annotations}}
  - name: token
    projected:
      sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
";

fn a_pod_of_many_parts_runs(env: &Env) {
    let path = apply_busybox(env, "parts", PARTS);
    wait_for(env, "jsonpath={.status.phase}=Succeeded", &["pod/parts"]);
    let log = env.kubectl(&["logs", "parts"]).ok().stdout;
    for part in [
        "from-init",
        "port-80: from-init",
        "pings: 0 2147483647",
        "name=parts node=kubby ip=10.244.0.",
        "cpu=500",
        "colour=\"blue\"",
        "note=\"hello\"",
        "uid=1000 gid=3000 groups=2000",
        "2000 2777",
        "Seccomp:\t2",
        "token-is-there",
    ] {
        assert!(log.contains(part), "no {part:?} in\n{log}");
    }
    delete(env, &path);
}

const HUNGRY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  containers:
  - name: c
    image: BUSYBOX
    command: [sh, -c, 'tail /dev/zero']
    resources: {limits: {memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: BUSYBOX
    command: [sh, -c, 'dd if=/dev/zero of=/data/big bs=1M count=20; sleep 3600']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {sizeLimit: 5Mi}}]
---
apiVersion: v1
kind: Pod
metadata: {name: vast}
spec:
  containers:
  - {name: c, image: BUSYBOX, command: [sleep, '9'], resources: {requests: {memory: 1Ti}}}
";

fn limits_are_kept(env: &Env) {
    let path = apply_busybox(env, "limits", HUNGRY);
    // Of one death containerd may learn the exit before the reason, and the kubelet keeps `Error` then. The
    // container is started again, and the last two deaths are looked at.
    let ends = "{.status.containerStatuses[*].state.terminated.reason} \
                {.status.containerStatuses[*].lastState.terminated.reason}";
    eventually(LIMIT, "the kernel ends what is over its limit", || {
        let reasons = get(env, &["pod", "hungry"], ends);
        match reasons.contains("OOMKilled") {
            true => Ok(()),
            false => Err(reasons),
        }
    });
    eventually(LIMIT, "the kubelet evicts what fills the disk", || {
        let reason = get(
            env,
            &["pod", "greedy"],
            "{.status.reason} {.status.message}",
        );
        if reason.starts_with("Evicted") {
            Ok(())
        } else {
            Err(reason)
        }
    });
    let vast = get(env, &["pod", "vast"], "{.status.conditions[0].message}");
    assert!(vast.contains("Insufficient memory"), "{vast}");
    delete(env, &path);
}

const VOLUMES: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1234, runAsNonRoot: true}
  containers:
  - name: c
    image: BUSYBOX
    command: [sh, -euc, 'echo kept > /data/file; id -u']
    volumeMounts: [{name: data, mountPath: /data, subPath: deep/er}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: shared}}]
";

const READER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 4321, runAsNonRoot: true, fsGroup: 999}
  containers:
  - name: c
    image: BUSYBOX
    command: [sh, -euc, 'cat /data/deep/er/file; touch /data/mine; stat -c %g /data']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: shared}}]
";

fn volumes_fit_their_pods(env: &Env) {
    assert_eq!(
        env.kubectl(&["get", "storageclass", "--no-headers"])
            .ok()
            .stdout
            .lines()
            .filter(|l| l.contains("(default)"))
            .count(),
        1
    );
    let volumes = apply_busybox(env, "volumes", VOLUMES);
    wait_for(env, "jsonpath={.status.phase}=Succeeded", &["pod/writer"]);
    assert_eq!(env.kubectl(&["logs", "writer"]).ok().stdout.trim(), "1234");
    // Another pod, another user, the same data.
    let reader = apply_busybox(env, "reader", READER);
    wait_for(env, "jsonpath={.status.phase}=Succeeded", &["pod/reader"]);
    let log = env.kubectl(&["logs", "reader"]).ok().stdout;
    assert_eq!(log.split_whitespace().collect::<Vec<_>>(), ["kept", "999"]);
    let volume = get(env, &["pvc", "shared"], "{.spec.volumeName}");
    delete(env, &reader);
    delete(env, &volumes);
    eventually(LIMIT, "the volume is deleted with its claim", || {
        let volumes = env.kubectl(&["get", "pv", "-o", "name"]).ok().stdout;
        let folders = env
            .kubby(&["ssh", "--", "ls /var/lib/kubby/volumes"])
            .ok()
            .stdout;
        if volumes.contains(&volume) || folders.contains(&volume) {
            Err(format!("{volumes}\n{folders}"))
        } else {
            Ok(())
        }
    });
}

const TOO_BIG: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: too-big}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 100Ti}}}
---
apiVersion: v1
kind: Pod
metadata: {name: too-big}
spec:
  containers:
  - name: c
    image: BUSYBOX
    command: [sleep, '9']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: too-big}}]
";

fn a_claim_beyond_the_disk_says_so(env: &Env) {
    let path = apply_busybox(env, "too-big", TOO_BIG);
    eventually(LIMIT, "the claim's events say why", || {
        let claim = env.kubectl(&["describe", "pvc", "too-big"]).ok().stdout;
        let said = claim.contains("ProvisioningFailed")
            && claim.contains("wants 100Ti, but the node's whole disk has");
        if said { Ok(()) } else { Err(claim) }
    });
    delete(env, &path);
}
