//! The loopback answers, and the packet filter cuts nothing off: 127.0.0.1 is how the host reaches
//! its nodes, and libvirt's NAT networks need what the host forwards.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::rules::{self, Dropping, Hook};
use crate::doctor::context::DoctorContext;
use crate::doctor::files::{entries, name};
use crate::doctor::finding::Finding;
use crate::error::Kind;
use crate::tool::{self, Tool};

/// The time limit of a connection; the kernel answers on its own loopback in microseconds.
const LIMIT: Duration = Duration::from_secs(2);

pub(in crate::doctor) fn look(_: &DoctorContext<'_>) -> Vec<Finding> {
    let interfaces = entries(Path::new("/sys/class/net"));
    let names = interfaces.iter().map(|path| name(path));
    let bridges: Vec<&str> = names.filter(|name| name.starts_with("virbr")).collect();
    let loopback = try_loopback().map_err(|e| e.to_string());
    vec![judge(loopback, dropping(), &bridges)]
}

/// Listens as QEMU does for a node's ports, and connects as kubectl does.
fn try_loopback() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address: SocketAddr = listener.local_addr()?;
    TcpStream::connect_timeout(&address, LIMIT).map(drop)
}

/// Returns the chains that drop; `None` where this user may not read the rules, or no program does.
fn dropping() -> Option<Vec<Dropping>> {
    type Read = fn(&str) -> Vec<Dropping>;
    let programs: [(&str, &[&str], Read); 2] = [
        ("iptables-save", &[], rules::of_iptables),
        ("nft", &["list", "ruleset"], rules::of_nft),
    ];
    let mut found = None;
    for (program, args, parse) in programs {
        if tool::find(program).is_none() {
            continue;
        }
        let output = Tool::new(program, Kind::Preflight)
            .args(args)
            .deadline(Duration::from_secs(5))
            .run(None);
        if let Ok(text) = output {
            found.get_or_insert_with(Vec::new).extend(parse(&text));
        }
    }
    found
}

/// Judges the loopback, the chains that drop, and what they do to the bridges of libvirt's networks.
fn judge(
    loopback: Result<(), String>,
    dropping: Option<Vec<Dropping>>,
    bridges: &[&str],
) -> Finding {
    if let Err(why) = loopback {
        return Finding::failure(
            format!("127.0.0.1 does not answer, through which the host reaches its nodes: {why}"),
            "sudo ip link set lo up; if it is up, let it through: sudo iptables -I INPUT -i lo -j \
             ACCEPT",
        );
    }
    let Some(dropping) = dropping else {
        return Finding::ok("127.0.0.1 answers; only root may read the filter's rules");
    };
    if dropping.iter().any(|d| d.hook == Hook::Output) {
        return Finding::warning(
            "the packet filter drops what this host sends unless a rule lets it through, so \
             downloads and pulls of images can fail",
            "see the rules: sudo iptables -S OUTPUT; sudo nft list ruleset",
        );
    }
    let is_cut_off = |bridge: &&str| {
        let mut forward = dropping.iter().filter(|d| d.hook == Hook::Forward);
        forward.any(|d| !d.lets_through(bridge))
    };
    let cut: Vec<&str> = bridges.iter().copied().filter(is_cut_off).collect();
    let [first, ..] = cut[..] else {
        return Finding::ok("127.0.0.1 answers, and no rule cuts nodes off");
    };
    let cut = cut.join(", ");
    Finding::warning(
        format!(
            "the packet filter drops what libvirt's NAT networks forward ({cut}), as Docker sets \
             it; kubby's own nodes are not cut off, since QEMU itself is their network"
        ),
        format!(
            "sudo iptables -I FORWARD -i {first} -j ACCEPT; sudo iptables -I FORWARD -o {first} \
             -j ACCEPT"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn the_loopback_counts_most_and_forwarding_only_for_bridges() {
        let forward = rules::of_iptables("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n");
        let output = rules::of_iptables("*filter\n:OUTPUT DROP [0:0]\nCOMMIT\n");
        let through = rules::of_iptables(
            "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i virbr0 -j ACCEPT\nCOMMIT\n",
        );
        let bridge = || vec!["virbr0"];
        let down = || Err("Network is unreachable".to_owned());
        let table = [
            (down(), Some(vec![]), vec![], State::Failure, "unreachable"),
            (Ok(()), None, vec![], State::Ok, "only root"),
            (
                Ok(()),
                Some(output),
                vec![],
                State::Warning,
                "this host sends",
            ),
            (Ok(()), Some(forward.clone()), vec![], State::Ok, "no rule"),
            (Ok(()), Some(forward), bridge(), State::Warning, "virbr0"),
            (Ok(()), Some(through), bridge(), State::Ok, "no rule"),
            (Ok(()), Some(vec![]), bridge(), State::Ok, "no rule"),
        ];
        for (loopback, dropping, bridges, state, words) in table {
            let found = judge(loopback, dropping, &bridges);
            assert_eq!(found.state, state, "{}", found.reason);
            assert!(found.reason.contains(words), "{}", found.reason);
        }
    }

    #[test]
    fn this_hosts_loopback_answers() {
        try_loopback().unwrap();
    }
}
