//! The quality of the links between a node and the others, which the user can make bad to see what happens.
//!
//! A plan wants links without faults, so that each start repairs them.

use std::fmt::Write as _;

use super::wanted::{Action, Wanted, public};
use crate::error::Result;
use crate::network::NodeNetwork;
use crate::remote::{NodeFile, Remote};

/// The interface that leads to the other nodes.
pub(super) const INTERFACE: &str = "nodes";

/// The command that puts changed rules into force.
pub(super) const FIREWALL_RELOAD: &str = "systemctl reload-or-restart nftables.service";

/// The rules that drop other nodes' packets; `nftables.conf` includes it.
const CUT: &str = "/etc/kubby/nftables.d/cut.nft";

/// The arguments of the `netem` that delays and loses packets.
pub(super) const NETEM: &str = "/etc/kubby/netem";

/// The command that makes the links good again.
const NETEM_OFF: &str = "tc qdisc delete dev nodes root 2>/dev/null || true";

/// The nodes that a node is cut off from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It reaches all.
    None,
    /// It reaches none.
    All,
    /// It reaches all but these.
    From(Vec<NodeNetwork>),
}

/// The links of a node as the user wants them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// The nodes that it does not reach.
    pub cut: Cut,
    /// The share of the packets that it sends to other nodes and that are lost, in percent.
    pub loss: f32,
    /// The time that each of these packets takes longer, in milliseconds.
    pub delay: u32,
}

pub(super) fn wanted() -> Wanted {
    Wanted {
        files: vec![public(CUT, ""), public(NETEM, "")],
        optional: vec![CUT, NETEM],
        actions: vec![
            Action::new(CUT, FIREWALL_RELOAD),
            Action::new(NETEM, NETEM_OFF),
        ],
        ..Wanted::default()
    }
}

impl Line {
    /// Returns the files that make the links so, also after the node's next boot.
    pub(crate) fn files(&self) -> Vec<NodeFile> {
        vec![public(CUT, self.rules()), public(NETEM, self.netem())]
    }

    /// Returns the command that puts the files into force.
    pub(crate) fn command(&self) -> String {
        let netem = match self.netem().is_empty() {
            true => NETEM_OFF.to_owned(),
            false => replace_netem(),
        };
        format!("set -eu\n{FIREWALL_RELOAD}\n{netem}\n")
    }

    /// Returns the rules. They come before those that let established connections pass, and drop silently,
    /// as a cable does that was pulled.
    fn rules(&self) -> String {
        let (mut from, mut to) = (String::new(), String::new());
        match &self.cut {
            Cut::None => return String::new(),
            Cut::All => {}
            Cut::From(nodes) => {
                let all = nodes
                    .iter()
                    .map(|node| format!("{}, {}", node.ip, node.pods));
                let all = all.collect::<Vec<_>>().join(", ");
                let _ = write!(from, "ip saddr {{ {all} }} ");
                let _ = write!(to, "ip daddr {{ {all} }} ");
            }
        }
        format!(
            "# Written by `kubby node disconnect`; `kubby node connect` removes it.\n\
             add chain inet kubby cut_in {{ type filter hook prerouting priority raw; policy accept; }}\n\
             add rule inet kubby cut_in iifname \"{INTERFACE}\" {from}drop\n\
             add chain inet kubby cut_out {{ type filter hook postrouting priority 300; policy accept; }}\n\
             add rule inet kubby cut_out oifname \"{INTERFACE}\" {to}drop\n"
        )
    }

    fn netem(&self) -> String {
        let mut words = Vec::new();
        if self.delay > 0 {
            // Without a larger queue a long delay would lose packets too.
            words.push(format!("limit 100000 delay {}ms", self.delay));
        }
        if self.loss > 0.0 {
            words.push(format!("loss {}%", self.loss));
        }
        words.join(" ")
    }
}

/// Returns whether a node has faults in its links that the user has made.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails.
pub(crate) fn has_line_fault(remote: &mut dyn Remote) -> Result<bool> {
    let output = remote.run(&format!("[ -s {CUT} ] || [ -s {NETEM} ]"))?;
    Ok(output.success())
}

/// Returns the command that makes the links as bad as the file says.
pub(super) fn replace_netem() -> String {
    format!("tc qdisc replace dev {INTERFACE} root netem $(cat {NETEM})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    fn line(cut: Cut, loss: f32, delay: u32) -> Line {
        Line { cut, loss, delay }
    }

    fn texts(line: &Line) -> [String; 2] {
        let files = line.files();
        [0, 1].map(|i| String::from_utf8(files[i].content.clone()).unwrap())
    }

    #[test]
    fn a_good_line_is_what_the_plan_wants() {
        let good = line(Cut::None, 0.0, 0);
        assert_eq!(good.files(), wanted().files);
        assert!(good.command().contains(NETEM_OFF));
        assert!(NETEM_OFF.contains(&format!("dev {INTERFACE} ")));
    }

    #[test]
    fn a_node_is_cut_off_from_all_or_from_some() {
        let [rules, netem] = texts(&line(Cut::All, 0.0, 0));
        assert!(rules.contains("cut_in iifname \"nodes\" drop\n"), "{rules}");
        assert!(
            rules.contains("cut_out oifname \"nodes\" drop\n"),
            "{rules}"
        );
        assert_eq!(netem, "");
        let other = Network::default().node("worker-2", 3);
        let [rules, _] = texts(&line(Cut::From(vec![other]), 0.0, 0));
        let addresses = "{ 10.245.0.3, 10.244.2.0/24 } drop";
        assert!(rules.contains(&format!("ip saddr {addresses}")), "{rules}");
        assert!(rules.contains(&format!("ip daddr {addresses}")), "{rules}");
    }

    #[test]
    fn packets_are_late_or_lost() {
        let [_, netem] = texts(&line(Cut::None, 2.5, 100));
        assert_eq!(netem, "limit 100000 delay 100ms loss 2.5%");
        assert!(
            line(Cut::None, 2.5, 0)
                .command()
                .contains("root netem $(cat")
        );
        assert_eq!(texts(&line(Cut::None, 0.0, 7))[1], "limit 100000 delay 7ms");
    }
}
