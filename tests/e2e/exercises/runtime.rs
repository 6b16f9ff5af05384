//! What pods and network plugins expect of a container runtime of today.

use super::{LIMIT, apply_busybox, delete, get, wait_for};
use crate::env::Env;
use crate::group::Test;
use crate::image::go_program;
use crate::program::{Run, eventually};

pub const TESTS: &[Test] = tests![
    what_is_stable_in_kubernetes_works,
    volumes_of_other_hosts_are_mounted,
    plugins_in_the_usual_folder_are_found,
];

/// One pod for each feature that needs the runtime's part.
const FEATURES: &str = "
apiVersion: v1
kind: Pod
metadata: {name: users}
spec:
  hostUsers: false
  restartPolicy: Never
  containers: [{name: c, image: BUSYBOX, command: [cat, /proc/self/uid_map]}]
---
apiVersion: v1
kind: Pod
metadata: {name: image-volume}
spec:
  restartPolicy: Never
  volumes: [{name: v, image: {reference: BUSYBOX, pullPolicy: IfNotPresent}}]
  containers:
  - {name: c, image: BUSYBOX, command: [ls, /v/bin/busybox], volumeMounts: [{name: v, mountPath: /v}]}
---
apiVersion: v1
kind: Pod
metadata: {name: groups}
spec:
  restartPolicy: Never
  securityContext:
    {runAsUser: 1000, runAsGroup: 3000, supplementalGroups: [4000], supplementalGroupsPolicy: Strict}
  containers: [{name: c, image: BUSYBOX, command: [id, -G]}]
---
apiVersion: v1
kind: Pod
metadata: {name: read-only}
spec:
  restartPolicy: Never
  volumes: [{name: h, hostPath: {path: /run}}]
  containers:
  - name: c
    image: BUSYBOX
    # /run/lock is a mount of its own.
    command: [sh, -c, 'touch /h/lock/here 2>/dev/null && echo written || echo refused']
    volumeMounts: [{name: h, mountPath: /h, readOnly: true, recursiveReadOnly: Enabled}]
---
apiVersion: v1
kind: Pod
metadata: {name: confined}
spec:
  restartPolicy: Never
  securityContext: {appArmorProfile: {type: RuntimeDefault}}
  containers: [{name: c, image: BUSYBOX, command: [cat, /proc/self/attr/current]}]
";

fn what_is_stable_in_kubernetes_works(env: &Env) {
    let path = apply_busybox(env, "features", FEATURES);
    let pods = ["users", "image-volume", "groups", "read-only", "confined"];
    for pod in pods {
        let pod = format!("pod/{pod}");
        wait_for(env, "jsonpath={.status.phase}=Succeeded", &[&pod]);
    }
    let log = |pod: &str| env.kubectl(&["logs", pod]).ok().stdout;
    let users = log("users");
    let users: Vec<&str> = users.split_whitespace().collect();
    assert!(
        users[0] == "0" && users[1] != "0",
        "its root is the node's: {users:?}"
    );
    assert_eq!(log("image-volume").trim(), "/v/bin/busybox");
    assert_eq!(log("groups").trim(), "3000 4000");
    assert_eq!(log("read-only").trim(), "refused");
    assert_eq!(
        log("confined").trim(),
        "cri-containerd.apparmor.d (enforce)"
    );
    delete(env, &path);
}

const SHARE: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: share}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  storageClassName: ''
  mountOptions: [nfsvers=3, port=2049, mountport=2049, tcp, nolock]
  nfs: {server: 127.0.0.1, path: /}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: share}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ''
  volumeName: share
  resources: {requests: {storage: 1Gi}}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  restartPolicy: Never
  volumes: [{name: share, persistentVolumeClaim: {claimName: share}}]
  containers:
  - name: c
    image: BUSYBOX
    command: [sh, -c, 'cat /share/here && echo from a pod > /share/there']
    volumeMounts: [{name: share, mountPath: /share}]
";

/// NFS from a server, here one in the node itself, and the helpers of the others, which say that nobody answers.
fn volumes_of_other_hosts_are_mounted(env: &Env) {
    let program = env.root().join("nfsserver");
    std::fs::write(&program, go_program("nfsserver")).expect("the program");
    let mut put = env.kubby_command();
    let install = "install -m 755 /dev/stdin /usr/local/bin/nfsserver && mkdir -p /srv/share && \
        echo from the server > /srv/share/here && \
        systemd-run --quiet --unit=nfsserver /usr/local/bin/nfsserver /srv/share 127.0.0.1:2049";
    put.args(["-p", &env.profile, "ssh", "--", install])
        .stdin(std::fs::File::open(program).expect("the program"));
    Run::of(put).ok();
    let path = apply_busybox(env, "share", SHARE);
    wait_for(env, "jsonpath={.status.phase}=Succeeded", &["pod/reader"]);
    env.kubectl(&["logs", "reader"])
        .ok()
        .prints("from the server\n");
    delete(env, &path);
    let node = |command: &str| env.kubby(&["ssh", "--", command]);
    node("cat /srv/share/there; systemctl stop nfsserver; rm /usr/local/bin/nfsserver")
        .ok()
        .prints("from a pod");
    let smb = node("mount -t cifs //127.0.0.1/share /mnt -o guest 2>&1");
    assert!(smb.stdout.contains("mount error(111)"), "{}", smb.stdout);
    // Its daemon begins with the first call.
    let iscsi = node("iscsiadm -m discovery -t sendtargets -p 127.0.0.1 2>&1");
    assert!(iscsi.stdout.contains("refused"), "{}", iscsi.stdout);
}

const PLUGIN: &str = "mkdir -p /opt/cni/bin && printf '#!/bin/sh\\nexec /opt/kubby/cni/ptp \"$@\"\\n' \
    > /opt/cni/bin/another && chmod 755 /opt/cni/bin/another";

const CONFIG: &str = r#"cat > /etc/cni/net.d/05-another.conflist <<'END'
{"cniVersion":"1.0.0","name":"another","plugins":[{"type":"another","ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}],"dataDir":"/run/another"}}]}
END"#;

const PROBE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: BUSYBOX, command: [sleep, '3600']}]
";

/// An installer puts its program into /opt/cni/bin and its configuration in front of kubby's.
fn plugins_in_the_usual_folder_are_found(env: &Env) {
    let node = |command: &str| env.kubby(&["ssh", "--", command]).ok();
    node(PLUGIN);
    node(CONFIG);
    // containerd sees the file a moment later; a pod before that is in kubby's network.
    eventually(LIMIT, "a pod in the other network", || {
        let path = apply_busybox(env, "probed", PROBE);
        wait_for(env, "condition=Ready", &["pod/probed"]);
        let ip = get(env, &["pod", "probed"], "{.status.podIP}");
        let way = node(&format!("ip -o route get {ip}")).stdout;
        delete(env, &path);
        match way.contains("dev veth") {
            true => Ok(()),
            false => Err(way),
        }
    });
    node("rm /etc/cni/net.d/05-another.conflist /opt/cni/bin/another");
}
