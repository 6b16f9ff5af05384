//! An OpenSSH server on a free port with keys of its own.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kubby::testing::remote::{Ssh, Target, generate_key};
use kubby::testing::{fsutil, tool};

/// How long anything that works may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The keys and configuration of a server, which may not run yet.
pub struct Site {
    dir: tempfile::TempDir,
    /// How to reach the server.
    pub target: Target,
    host_key_line: &'static str,
}

impl Site {
    /// A server with an Ed25519 host key.
    pub fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let host = generate_key("host").unwrap();
        let client = generate_key("client").unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fsutil::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
            path
        };
        put("host_key", &host.private_openssh);
        put("authorized_keys", &client.public_openssh);
        let private_key = put("client_key", &client.private_openssh);
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout);
        let target = Target {
            host: "127.0.0.1".into(),
            port: free_port(),
            user: user.unwrap().trim().to_owned(),
            private_key,
            host_key: host.public_openssh,
        };
        Site {
            dir,
            target,
            host_key_line: "HostKey {dir}/host_key",
        }
    }

    /// A server that has no Ed25519 host key, only an ECDSA one.
    pub fn with_other_host_key_kind() -> Site {
        let mut site = Site::new();
        site.host_key_line = "HostKey {dir}/ecdsa_key";
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ecdsa", "-N", "", "-f"])
            .arg(site.path().join("ecdsa_key"))
            .status();
        assert!(made.unwrap().success());
        site
    }

    /// A scratch directory that lives as long as this.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the server and waits until it listens.
    pub fn start(&self) -> Running {
        let sshd = sshd();
        let dir = self.path().display();
        let host_key = self.host_key_line.replace("{dir}", &dir.to_string());
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\n{host_key}\nPidFile none\nStrictModes no\n\
             AuthorizedKeysFile {dir}/authorized_keys\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPubkeyAuthentication yes\nUsePAM no\n\
             PermitRootLogin prohibit-password\nMaxStartups 100\nPrintMotd no\nAcceptEnv LC_*\n",
            port = self.target.port,
        );
        let config_path = self.path().join("sshd_config");
        std::fs::write(&config_path, config).unwrap();
        let log = File::create(self.path().join("sshd.log")).unwrap();
        let child = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut running = Running { child };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.target.port)).is_err() {
            let ended = running.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.path().join("sshd.log")).unwrap();
            assert!(ended.is_none(), "sshd ended: {}", log());
            assert!(Instant::now() < end, "sshd does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }
}

/// A server process; it ends with this value.
pub struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running server and a connection to it.
pub fn connected() -> (Site, Running, Ssh) {
    let site = Site::new();
    let running = site.start();
    // Tests run side by side, and a port that one has just given back may be another's for a moment.
    let end = Instant::now() + PATIENCE;
    let ssh = Ssh::connect_when_ready(&site.target, end, &mut |_| Ok(())).unwrap();
    (site, running, ssh)
}

/// A TCP port of 127.0.0.1 that nobody has at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn sshd() -> PathBuf {
    let sshd = tool::find("sshd")
        .expect("these tests need OpenSSH's server: apt install openssh-server openssh-client");
    if rustix::process::geteuid().is_root() {
        // The service's unit makes it, and without it the server refuses to start.
        std::fs::create_dir_all("/run/sshd").unwrap();
    }
    sshd
}
