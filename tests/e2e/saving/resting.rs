//! Clusters that nothing looks at for a long while rest: an idle node takes most of an emulated
//! processor, and what is tested meanwhile has few of them.

use super::{healthy, host, named};
use crate::env::{Env, Test};

/// Before those of them that are left are looked at again.
pub const AFTER: &[Test] = &[("rested_clusters_go_on", go_on)];

/// Before what makes clusters of its own.
pub fn rest(env: &Env) {
    for name in [env.profile.clone(), named(env, "a"), named(env, "b")] {
        env.kubby_on(&name, &["pause"]).ok();
        assert_eq!(host(env, &name), "Paused");
    }
}

fn go_on(env: &Env) {
    for name in [env.profile.clone(), named(env, "a")] {
        env.kubby_on(&name, &["resume"]).ok();
        healthy(env, &name);
    }
}
