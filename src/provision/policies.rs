//! The rules that the add-on `policies` leaves in a node when it is removed.

use crate::error::Result;
use crate::remote::Remote;

/// Removes the rules that lead packets to the program of the add-on `policies`, once that has ended. Without it they
/// would drop the packets of all pods that a NetworkPolicy selects.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails, [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when the program does not end.
pub(crate) fn remove_policies(remote: &mut dyn Remote) -> Result<()> {
    let script = "for _ in $(seq 120); do pgrep -x kube-network-po >/dev/null || break; sleep 0.5; done\n\
         ! pgrep -x kube-network-po >/dev/null || { echo it still runs >&2; exit 1; }\n\
         nft delete table inet kube-network-policies 2>/dev/null || true";
    remote
        .run(script)?
        .require("removing the rules of NetworkPolicies")
        .map(drop)
}
