//! The programs of a set on this host, with their files in a folder that is the user's alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Kind, Result, ResultExt};
use crate::fsutil;
use crate::network::Network;
use crate::tool::Tool;

/// The time that the API server may take, and the controllers again; on a host that is not emulated
/// each needs a few seconds.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// The programs with their files in a folder of their own.
pub(super) struct Run<'a> {
    pub(super) bin: &'a Path,
    pub(super) dir: &'a Path,
    pub(super) port: u16,
}

impl Run<'_> {
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("etcd")
    }

    /// Returns etcd's address: a socket in the folder, so that no other user can write to it.
    pub(super) fn endpoint(&self) -> String {
        format!("unix://{}/client", self.dir.display())
    }

    /// Returns an option that takes the path of a file in the folder.
    fn file(&self, option: &str, name: &str) -> String {
        format!("--{option}={}", self.path(name))
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// Returns a program that ends with this process.
    fn service(&self, program: &str) -> Tool {
        Tool::new("setpriv", Kind::Assets)
            .args(["--pdeathsig", "KILL", "--"])
            .arg(self.bin.join(program))
            .deadline(LIMIT * 2)
    }

    /// Returns etcd under the name and the address that a node's etcd has, since its files hold them.
    pub(super) fn etcd(&self) -> Tool {
        let data = self.data();
        let member = Network::default()
            .first_node()
            .etcd_member(&data.to_string_lossy());
        self.service("etcd")
            .args(member)
            .arg(format!("--listen-client-urls={}", self.endpoint()))
            .arg(format!("--listen-peer-urls=unix://{}", self.path("peer")))
            .args(["--unsafe-no-fsync", "--log-level=warn"])
    }

    pub(super) fn api_server(&self) -> Tool {
        let network = Network::default();
        self.service("kube-apiserver")
            .arg(format!("--etcd-servers={}", self.endpoint()))
            .arg("--bind-address=127.0.0.1")
            // It takes none of the loopback; who finds it there is not asked for.
            .arg(format!("--advertise-address={}", network.first_node().ip))
            .arg(format!("--secure-port={}", self.port))
            .arg(self.file("cert-dir", "certificates"))
            .arg("--authorization-mode=Node,RBAC")
            .arg(self.file("token-auth-file", "tokens"))
            .arg(format!(
                "--service-account-issuer={}",
                network.token_issuer()
            ))
            .arg(self.file("service-account-key-file", "sa.pub"))
            .arg(self.file("service-account-signing-key-file", "sa.key"))
            .arg(format!("--service-cluster-ip-range={}", network.services))
    }

    /// Writes a key to sign with, and the tokens of two users: one who may ask whether all is ready
    /// and no more, and one for the controllers.
    pub(super) fn write_credentials(&self) -> Result<()> {
        let fail = || "cannot make a key".to_owned();
        let key = rcgen::KeyPair::generate().context(Kind::Assets, fail)?;
        let [token, controllers] = [(); 2].map(|()| uuid::Uuid::new_v4().simple().to_string());
        let tokens =
            format!("{token},kubby,kubby\n{controllers},controllers,controllers,system:masters\n");
        for (name, text) in [
            ("sa.key", key.serialize_pem()),
            ("sa.pub", key.public_key_pem()),
            ("tokens", tokens),
            ("kubeconfig", self.kubeconfig(&token)),
            ("controllers", self.kubeconfig(&controllers)),
        ] {
            fsutil::write_atomic(&self.dir.join(name), text.as_bytes(), 0o600)?;
        }
        Ok(())
    }

    pub(super) fn kubeconfig(&self, token: &str) -> String {
        let config = serde_json::json!({
            "clusters": [{"name": "a", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                // Its certificate is one of its own making; the tokens are worth nothing elsewhere.
                "insecure-skip-tls-verify": true,
            }}],
            "users": [{"name": "a", "user": {"token": token}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        });
        config.to_string()
    }

    pub(super) fn controllers(&self) -> Tool {
        let network = Network::default();
        self.service("kube-controller-manager")
            .arg(self.file("kubeconfig", "controllers"))
            .arg("--secure-port=0")
            .arg("--leader-elect=false")
            .arg("--controllers=*,bootstrapsigner,tokencleaner")
            .arg("--use-service-account-credentials=true")
            .arg(self.file("service-account-private-key-file", "sa.key"))
            // Its own: without one the controller that publishes it would not run.
            .arg(self.file("root-ca-file", "certificates/apiserver.crt"))
            .arg("--allocate-node-cidrs=true")
            .arg(format!("--cluster-cidr={}", network.pods))
            .arg(format!("--service-cluster-ip-range={}", network.services))
            .args(["--kube-api-qps=1000", "--kube-api-burst=1000"])
    }

    pub(super) fn program(&self, name: &str) -> String {
        self.bin.join(name).to_string_lossy().into_owned()
    }

    pub(super) fn etcdctl(&self, args: &[&str]) -> Result<String> {
        Tool::new(self.program("etcdctl"), Kind::Assets)
            .arg(format!("--endpoints={}", self.endpoint()))
            .args(args)
            .deadline(Duration::from_secs(30))
            .run(None)
    }
}
