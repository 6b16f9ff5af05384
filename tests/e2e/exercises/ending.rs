//! Pods that have something to do before they end, over a stop and a start.

use std::path::PathBuf;

use super::{LIMIT, apply_busybox, delete, get, rolled_out, wait_for};
use crate::env::Env;
use crate::program::eventually;

/// A database in small: it takes 25 s to write what it holds. And a pod of no controller, whose process hears no
/// signal.
const PODS: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: ending}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ending}
spec:
  serviceName: ending
  replicas: 1
  selector: {matchLabels: {app: ending}}
  template:
    metadata: {labels: {app: ending}}
    spec:
      terminationGracePeriodSeconds: 90
      volumes: [{name: d, persistentVolumeClaim: {claimName: ending}}]
      containers:
      - name: c
        image: BUSYBOX
        command:
        - sh
        - -c
        - |
          echo start >> /d/log
          trap 'echo term >> /d/log; sleep 25; echo clean >> /d/log; sync; exit 0' TERM
          while :; do sleep 1; done
        lifecycle: {preStop: {exec: {command: [sh, -c, 'echo prestop >> /d/log; sync']}}}
        volumeMounts: [{name: d, mountPath: /d}]
---
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec:
  terminationGracePeriodSeconds: 90
  containers: [{name: c, image: BUSYBOX, command: [sleep, '86400']}]
";

/// The pods, until they are looked at.
pub struct Ending {
    path: PathBuf,
}

impl Ending {
    pub fn begin(env: &Env) -> Self {
        let path = apply_busybox(env, "ending", PODS);
        rolled_out(env, "statefulset/ending");
        wait_for(env, "condition=Ready", &["pod/alone"]);
        Ending { path }
    }

    /// Checks, after a stop and a start, that each had its time and runs again.
    pub fn was_clean(self, env: &Env) {
        // What the API says of pods is of the time before for a moment.
        eventually(LIMIT, "a clean end, and another begin", || {
            let log = env.kubectl(&["exec", "ending-0", "--", "cat", "/d/log"]);
            let log = log.stdout.lines().collect::<Vec<_>>().join(" ");
            match log.as_str() {
                "start prestop term clean start" => Ok(()),
                _ => Err(log),
            }
        });
        eventually(LIMIT, "a pod of no controller runs again", || {
            let state = "{.status.phase} {.status.containerStatuses[0].restartCount}";
            let state = get(env, &["pod", "alone"], state);
            match state.as_str() {
                "Running 1" => Ok(()),
                _ => Err(state),
            }
        });
        delete(env, &self.path);
    }
}
