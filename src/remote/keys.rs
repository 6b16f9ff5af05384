//! SSH keys: made on the host, compared by their bytes, shown as fingerprints.

use std::fmt;

use base64::Engine;
use sha2::{Digest, Sha256};
use ssh_key::{Algorithm, LineEnding, PrivateKey, PublicKey, rand_core::OsRng};

use crate::error::{Error, Kind, Result, ResultExt};

/// A new key pair, both halves as OpenSSH writes them to files.
#[derive(Clone)]
pub struct KeyPair {
    /// The private key (`-----BEGIN OPENSSH PRIVATE KEY-----`), without a passphrase.
    pub private_openssh: String,
    /// The public key as one line: `ssh-ed25519 AAAA… comment`.
    pub public_openssh: String,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("public_openssh", &self.public_openssh)
            .finish_non_exhaustive()
    }
}

/// Makes an Ed25519 key pair.
///
/// # Errors
/// [`Kind::Internal`] when the operating system gives no random numbers.
pub fn generate_key(comment: &str) -> Result<KeyPair> {
    let fail = || "cannot make an SSH key".to_owned();
    let mut key =
        PrivateKey::random(&mut OsRng, Algorithm::Ed25519).context(Kind::Internal, fail)?;
    key.set_comment(comment);
    Ok(KeyPair {
        private_openssh: key
            .to_openssh(LineEnding::LF)
            .context(Kind::Internal, fail)?
            .to_string(),
        public_openssh: key
            .public_key()
            .to_openssh()
            .context(Kind::Internal, fail)?,
    })
}

/// Returns the bytes of a public key as they go over the wire, from its OpenSSH line.
pub(super) fn public_key_bytes(line: &str) -> Result<Vec<u8>> {
    PublicKey::from_openssh(line.trim())
        .and_then(|key| key.to_bytes())
        .map_err(|e| {
            Error::state("the recorded SSH host key of the node is damaged")
                .with_source(e)
                .with_hint("recreate the cluster: kubby delete, then kubby start")
        })
}

/// Returns the fingerprint of a public key, written like `ssh-keygen -l` does.
pub(super) fn fingerprint(key: &[u8]) -> String {
    let digest = base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(key));
    format!("SHA256:{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_private_half() {
        let text = format!("{:?}", generate_key("kubby").unwrap());
        assert!(
            text.contains("ssh-ed25519") && !text.contains("PRIVATE"),
            "{text}"
        );
    }

    #[test]
    fn keys_differ_and_carry_their_comment() {
        let (one, two) = (generate_key("node").unwrap(), generate_key("node").unwrap());
        assert_ne!(one.public_openssh, two.public_openssh);
        assert!(
            one.public_openssh.ends_with(" node"),
            "{}",
            one.public_openssh
        );
    }

    #[test]
    fn a_fingerprint_is_the_one_that_ssh_keygen_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pub");
        let key = generate_key("x").unwrap();
        std::fs::write(&path, &key.public_openssh).unwrap();
        let shown = std::process::Command::new("ssh-keygen")
            .arg("-lf")
            .arg(&path)
            .output()
            .unwrap();
        let expected = fingerprint(&public_key_bytes(&key.public_openssh).unwrap());
        assert!(
            String::from_utf8_lossy(&shown.stdout).contains(&expected),
            "{shown:?}"
        );
    }

    #[test]
    fn a_damaged_host_key_is_refused() {
        for line in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "nonsense AAAA"] {
            assert_eq!(
                public_key_bytes(line).unwrap_err().kind(),
                Kind::State,
                "{line}"
            );
        }
    }
}
