//! The keys of the links between a cluster's machines: one pair for each, made on the host.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::cluster::Cluster;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::provision::{Links, Peer};
use crate::store::ProfileDir;

/// Returns the links of one of a cluster's nodes to all others; creates keys that are missing. A cluster
/// of one node has none.
///
/// # Errors
/// [`Kind::State`] for a damaged key or a node without a port, [`Kind::Internal`] when the file system
/// refuses.
pub(crate) fn of(cluster: &Cluster, node: usize) -> Result<Links> {
    let nodes = &cluster.profile.nodes;
    if nodes.len() == 1 {
        return Ok(Links::default());
    }
    let others = nodes.iter().enumerate().filter(|(other, _)| *other != node);
    let peers = others.map(|(_, other)| {
        let key = ensure_key(&cluster.node_dir(other))?;
        let port = other.ports.link.ok_or_else(|| {
            Error::state(format!(
                "the node `{}` has no port for its link",
                other.name
            ))
        })?;
        Ok(Peer {
            node: other.addresses(),
            public_key: STANDARD.encode(PublicKey::from(&key)),
            port,
        })
    });
    let peers = peers.collect::<Result<_>>()?;
    let key = ensure_key(&cluster.node_dir(&nodes[node]))?;
    Ok(Links {
        private_key: STANDARD.encode(key.to_bytes()),
        peers,
    })
}

/// Returns a node's key, which is created where it is missing.
fn ensure_key(dir: &ProfileDir) -> Result<StaticSecret> {
    let path = dir.link_key();
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = StaticSecret::random();
            fsutil::create_private_dir(dir.root())?;
            fsutil::write_atomic(&path, STANDARD.encode(key.to_bytes()).as_bytes(), 0o600)?;
            return Ok(key);
        }
        text => text.context(Kind::State, || format!("cannot read {}", path.display()))?,
    };
    let bytes = STANDARD.decode(text.trim()).ok();
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| {
        Error::state(format!("the key {} is damaged", path.display()))
            .with_hint("remove the file: the next start creates another key")
    })?;
    Ok(StaticSecret::from(bytes))
}
