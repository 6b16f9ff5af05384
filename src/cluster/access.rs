//! Ways into a cluster that is there: over SSH and through its API.

use std::time::Duration;

use crate::api::ApiClient;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::hypervisor::Acceleration;
use crate::pki::{CertName, Pki};
use crate::profile::{Profile, ProfileName};
use crate::remote::Target;
use crate::store::{ProfileDir, Store};

/// A profile that exists, with what is needed to reach its node.
#[derive(Debug, Clone)]
pub struct Access {
    /// The profile.
    pub profile: Profile,
    /// Its files.
    pub dir: ProfileDir,
}

impl Access {
    /// Opens a profile.
    ///
    /// # Errors
    /// [`Kind::State`] where it does not exist or is damaged.
    pub fn open(store: &Store, name: &ProfileName) -> Result<Self> {
        let dir = store.profile_dir(name);
        match Profile::load(&dir)? {
            Some(profile) => Ok(Access { profile, dir }),
            None => Err(
                Error::new(Kind::State, format!("there is no cluster named `{name}`"))
                    .with_hint(format!("kubby start{}", name.flag()))
                    .with_hint("kubby list shows the clusters that there are"),
            ),
        }
    }

    /// How the node runs.
    pub fn acceleration(&self) -> Acceleration {
        self.profile
            .acceleration
            .parse()
            .unwrap_or(Acceleration::Tcg)
    }

    /// A deadline that was measured with hardware virtualisation, scaled to how the node runs.
    pub fn deadline(&self, with_kvm: Duration) -> Duration {
        with_kvm * self.acceleration().deadline_factor()
    }

    /// Where SSH finds the node, with the keys of both sides.
    ///
    /// # Errors
    /// [`Kind::State`] when the profile's keys are missing.
    pub fn target(&self) -> Result<Target> {
        self.target_with(&self.dir)
    }

    /// As [`target`](Self::target), with keys that are in another folder.
    ///
    /// # Errors
    /// As [`target`](Self::target).
    pub fn target_with(&self, keys: &ProfileDir) -> Result<Target> {
        let public = keys.host_key().with_extension("pub");
        let host_key = std::fs::read_to_string(&public).context(Kind::State, || {
            format!("cannot read the node's host key {}", public.display())
        })?;
        Ok(Target {
            host: "127.0.0.1".into(),
            port: self.profile.ports.ssh,
            user: "root".into(),
            private_key: keys.ssh_key(),
            host_key: host_key.trim().to_owned(),
        })
    }

    /// The API as the operator.
    ///
    /// # Errors
    /// [`Kind::State`] when the profile's certificates are missing or damaged.
    pub fn api(&self) -> Result<ApiClient> {
        let read = |name: &str| {
            let path = self.dir.pki().join(name);
            std::fs::read_to_string(&path)
                .context(Kind::State, || format!("cannot read {}", path.display()))
        };
        ApiClient::new(
            self.profile.ports.api,
            &read("ca.crt")?,
            &read("admin.crt")?,
            &read("admin.key")?,
        )
    }

    /// The API with certificates at hand.
    ///
    /// # Errors
    /// [`Kind::State`] when a certificate is damaged.
    pub fn api_with(&self, pki: &Pki) -> Result<ApiClient> {
        ApiClient::new(
            self.profile.ports.api,
            pki.cert(CertName::Ca),
            pki.cert(CertName::Admin),
            pki.key(CertName::Admin),
        )
    }
}
