//! The ports of the host that lead into a cluster's nodes: choosing them, and replacing those that
//! other programs have taken. The caller holds the shared lock until the profile with them is saved, so
//! that two starts never choose the same one.

use clap::Args;

use crate::error::{Error, Result};
use crate::hypervisor::{Protocol, ports};
use crate::name::ProfileName;
use crate::profile::{Ports, Profile};
use crate::role::Role;
use crate::store::Store;

/// The ports that the user asked for by number.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct AskedPorts {
    /// Port on 127.0.0.1 for kube-apiserver [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub api_port: Option<u16>,
    /// Port on 127.0.0.1 for the node's SSH server [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ssh_port: Option<u16>,
}

/// Chooses the ports of a node of this role, none of which is in `taken`, and adds them to that list.
/// `link` says whether the cluster has other nodes.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) for a port that is taken.
pub(crate) fn choose(
    taken: &mut Vec<(u16, ProfileName)>,
    name: &ProfileName,
    role: Role,
    link: bool,
    asked: AskedPorts,
) -> Result<Ports> {
    let mut choose = |asked: Option<u16>, flag: &str| -> Result<u16> {
        let port = match asked {
            Some(port) => port,
            None => free(taken.iter().map(|(port, _)| *port))?,
        };
        if let Some((_, owner)) = taken.iter().find(|(p, _)| *p == port) {
            return Err(Error::preflight(format!(
                "{flag}: port {port} belongs to the cluster `{owner}`"
            ))
            .with_hint("choose another port, or leave the flag out for a free one"));
        }
        if asked.is_some() {
            ports::check_free(port, flag)?;
        }
        taken.push((port, name.clone()));
        Ok(port)
    };
    Ok(Ports {
        api: match role {
            Role::ControlPlane => Some(choose(asked.api_port, "--api-port")?),
            Role::Worker => None,
        },
        ssh: choose(asked.ssh_port, "--ssh-port")?,
        link: link.then(|| choose(None, "")).transpose()?,
    })
}

/// Replaces those ports of a node that other programs have taken since its last start, unless the user
/// asked for them by number. Returns the old and new numbers.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) for a port that was asked for and is taken, or when there is no free one.
pub(crate) fn replace_taken(
    store: &Store,
    profile: &mut Profile,
    node: usize,
    asked: AskedPorts,
) -> Result<Vec<(u16, u16)>> {
    let others = of_others(store, &profile.name)?;
    let mut avoid: Vec<u16> = others.into_iter().map(|(port, _)| port).collect();
    avoid.extend(profile.host_ports());
    let has = &mut profile.nodes[node].ports;
    let api = has.api.as_mut();
    let mut replaced = Vec::new();
    for (port, asked, flag) in [
        (api, asked.api_port, "--api-port"),
        (Some(&mut has.ssh), asked.ssh_port, "--ssh-port"),
    ] {
        let Some(port) = port else { continue };
        match ports::check_free(*port, flag) {
            Ok(()) => {}
            Err(e) if asked.is_some() => return Err(e),
            Err(_) => {
                let new = free(avoid.iter().copied())?;
                avoid.push(new);
                replaced.push((*port, new));
                *port = new;
            }
        }
    }
    if let Some(port) = &mut has.link
        && !ports::can_be_had(Protocol::Udp, *port)
    {
        let new = free(avoid.iter().copied())?;
        replaced.push((*port, new));
        *port = new;
    }
    Ok(replaced)
}

/// Returns a free port that no profile has recorded.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) when there is none.
pub(crate) fn choose_one(store: &Store, profile: &Profile) -> Result<u16> {
    let others = of_others(store, &profile.name)?;
    let others = others.into_iter().map(|(port, _)| port);
    free(others.chain(profile.host_ports()))
}

/// Returns the ports that other profiles have recorded, and may use again when they start.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when the profiles cannot be listed.
pub(crate) fn of_others(store: &Store, name: &ProfileName) -> Result<Vec<(u16, ProfileName)>> {
    let mut taken = Vec::new();
    for other in store.profile_names()? {
        // A damaged profile's ports are not known; if they are in use, binding shows it.
        if let (true, Ok(Some(profile))) =
            (other != *name, Profile::load(&store.profile_dir(&other)))
        {
            let ports = profile.host_ports().into_iter();
            taken.extend(ports.map(|port| (port, other.clone())));
        }
    }
    Ok(taken)
}

/// Returns a free port that is none of `avoid`.
fn free(avoid: impl IntoIterator<Item = u16>) -> Result<u16> {
    let found = ports::find_free(1, &avoid.into_iter().collect())?;
    found
        .first()
        .copied()
        .ok_or_else(|| Error::preflight("there is no free port"))
}
