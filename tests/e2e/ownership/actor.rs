//! The user whose commands are tried: the one who runs the tests, or an ordinary one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::env::{Env, uri};
use crate::program::Run;
use crate::user::{User, tool};

/// A user with a folder for all homes of the test.
pub struct Actor<'a> {
    pub root: PathBuf,
    pub uri: &'static str,
    user: Option<&'a User>,
    program: PathBuf,
}

impl<'a> Actor<'a> {
    /// Returns the user who runs the tests: root with the system's libvirt, others with their own.
    pub fn runner(env: &Env) -> Self {
        let root = env.root().join("r");
        std::fs::create_dir_all(&root).expect("a folder");
        Actor {
            root,
            uri: uri(),
            user: None,
            program: env!("CARGO_BIN_EXE_kubby").into(),
        }
    }

    /// Returns an ordinary user, with a copy of the program.
    pub fn ordinary(user: &'a User) -> Self {
        let program = user.home.join("kubby");
        std::fs::copy(env!("CARGO_BIN_EXE_kubby"), &program).expect("a copy");
        user.own(&program);
        let root = user.home.join("r");
        std::fs::create_dir(&root).expect("a folder");
        user.own(&root);
        Actor {
            root,
            uri: "qemu:///session",
            user: Some(user),
            program,
        }
    }

    /// Returns a program that this user runs with nothing of kubby's in the environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match self.user {
            Some(user) => user.command(program),
            None => Command::new(program),
        };
        for variable in ["KUBBY_HOME", "KUBBY_PROFILE", "XDG_DATA_HOME", "KUBECONFIG"] {
            command.env_remove(variable);
        }
        if self.user.is_none() {
            command.env("HOME", &self.root);
        }
        command
            .env("NO_COLOR", "1")
            .env("KUBBY_CACHE", self.root.join("cache"))
            .stdin(Stdio::null());
        command
    }

    pub fn kubby(&self) -> Command {
        self.command(&self.program.to_string_lossy())
    }

    /// Runs commands of virsh, one after the other.
    pub fn virsh(&self, commands: &[String]) -> Run {
        let mut command = self.command("virsh");
        command.args(["-q", "-c", self.uri, &commands.join("; ")]);
        Run::of(command)
    }

    /// Gives everything below a folder to this user.
    pub fn own(&self, folder: &Path) {
        if let Some(user) = self.user {
            let owner = format!("{0}:{0}", user.name);
            tool("chown", &["-hR", &owner, &folder.to_string_lossy()]).ok();
        }
    }

    pub fn is_system(&self) -> bool {
        self.uri == "qemu:///system"
    }
}
