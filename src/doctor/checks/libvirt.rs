//! libvirt answers, on every connection that this home uses.

use crate::doctor::context::{Connection, DoctorContext};
use crate::doctor::finding::Finding;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    s.connections.iter().map(judge).collect()
}

fn judge(connection: &Connection) -> Finding {
    match &connection.link {
        Ok(link) => Finding::ok(format!(
            "libvirt {} answers at {}",
            link.info.libvirt_version, connection.uri
        )),
        Err(e) => Finding::of_error(
            e,
            "see the cause: virsh list; choose another libvirt with LIBVIRT_DEFAULT_URI",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;
    use crate::error::Error;

    #[test]
    fn no_answer_is_a_failure_with_libvirts_own_remedy() {
        let found = judge(&Connection {
            uri: "qemu:///system".into(),
            link: Err(Error::preflight("cannot connect to qemu:///system")
                .with_hint("sudo systemctl restart libvirtd")),
        });
        assert_eq!(found.state, State::Failure);
        assert!(found.reason.contains("qemu:///system"));
        assert!(found.remedy.unwrap().contains("systemctl"));
    }
}
