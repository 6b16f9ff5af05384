//! What the host knows of registries, name servers and authorities can be taken over into nodes.

use crate::doctor::finding::Finding;
use crate::doctor::surroundings::Surroundings;
use crate::egress::{Egress, HostFacts, Settings};

const NAME: &str = "registries";

pub(in crate::doctor) fn look(_: &Surroundings<'_>) -> Vec<Finding> {
    // Proxies have a check of their own.
    vec![judge(&HostFacts {
        environment: Vec::new(),
        ..HostFacts::read()
    })]
}

fn judge(host: &HostFacts) -> Finding {
    let warnings = match Egress::gather(&Settings::default(), host) {
        Ok((_, warnings)) => warnings,
        Err(e) => vec![e.message().to_owned()],
    };
    if warnings.is_empty() {
        return Finding::ok(
            NAME,
            "all that the host knows of registries reaches the nodes",
        );
    }
    Finding::warning(
        NAME,
        warnings.join("; "),
        "correct the file, or give it to the cluster: kubby start --registry-mirror, \
         --ca-certificate, --dns",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn files_that_cannot_be_taken_over_are_named() {
        assert_eq!(judge(&HostFacts::default()).state, State::Ok);
        let found = judge(&HostFacts {
            authorities: vec![("/ca/a.crt".into(), "no certificate".into())],
            docker: Some(("/etc/docker/daemon.json".into(), "{".into())),
            ..HostFacts::default()
        });
        assert_eq!(found.state, State::Warning);
        for file in ["/ca/a.crt", "/etc/docker/daemon.json"] {
            assert!(found.reason.contains(file), "{}", found.reason);
        }
    }
}
