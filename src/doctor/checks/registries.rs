//! The host's settings of registries, name servers and authorities can be used in nodes.

use crate::doctor::context::DoctorContext;
use crate::doctor::finding::Finding;
use crate::egress::{Egress, HostFacts, Settings};

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    // Proxies have a check of their own.
    vec![judge(&HostFacts {
        environment: Vec::new(),
        ..s.env.backend.host_facts()
    })]
}

fn judge(host: &HostFacts) -> Finding {
    let warnings = match Egress::gather(&Settings::default(), host) {
        Ok((_, warnings)) => warnings,
        Err(e) => vec![e.message().to_owned()],
    };
    if warnings.is_empty() {
        return Finding::ok("all settings of registries on the host reach the nodes");
    }
    Finding::warning(
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
    fn files_that_cannot_be_used_are_named() {
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
