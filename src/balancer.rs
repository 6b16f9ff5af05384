//! The configuration of HAProxy in front of kube-apiservers: on a worker's loopback, and on the host's.
//!
//! It asks each control plane every two seconds whether it is ready, and passes connections on as they are:
//! only the two ends know what is in them.

use std::fmt::Write as _;

/// The path at which an API server says whether it can be asked. The first one has made the roles of the system's
/// users; another one looks at each of the two hundred when it begins, which takes minutes where both are emulated.
pub(crate) const READY: &str = "/readyz?exclude=poststarthook/rbac/bootstrap-roles";

/// A load balancer of API servers.
pub(crate) struct Balancer<'a> {
    /// The lines of the section `global`.
    pub global: &'a [&'a str],
    /// The port of 127.0.0.1 at which it listens.
    pub port: u16,
    /// The file with the authority of the servers' certificates.
    pub authority: &'a str,
    /// The servers: name, and address with port.
    pub servers: Vec<(String, String)>,
}

impl Balancer<'_> {
    /// Returns the text of the configuration.
    pub(crate) fn config(&self) -> String {
        let global: String = self.global.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "  {line}");
            text
        });
        let (port, authority) = (self.port, self.authority);
        let mut text = format!(
            "# Written by kubby; `kubby start` puts it back as it was.\n\
             global\n{global}\
             defaults\n  mode tcp\n  log global\n  timeout connect 2s\n  timeout check 5s\n  \
             timeout client 1h\n  timeout server 1h\n\
             frontend api\n  bind 127.0.0.1:{port}\n  default_backend control-planes\n\
             backend control-planes\n  option redispatch 1\n  option httpchk GET {READY}\n  \
             http-check expect status 200\n  \
             default-server check check-ssl verify required ca-file {authority} inter 2s fall 2 rise 1 \
             on-marked-down shutdown-sessions\n"
        );
        for (name, address) in &self.servers {
            let _ = writeln!(text, "  server {name} {address}");
        }
        text
    }
}
