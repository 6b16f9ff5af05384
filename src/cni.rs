//! The network of pods: kubby's own, or a network plugin (CNI) of the user's.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The source of pods' network; fixed when a cluster is created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// kubby's own: a bridge on each node, and routes between the nodes.
    #[default]
    Bridge,
    /// Nothing, until the user installs a plugin.
    None,
    /// A plugin that an add-on of the user's brings.
    Addon,
}

impl Cni {
    /// Returns whether kubby makes the network itself.
    pub(crate) fn is_own(&self) -> bool {
        *self == Cni::Bridge
    }
}

/// The value of `--cni`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CniArg {
    /// kubby's own.
    Bridge,
    /// None.
    None,
    /// The add-on in this folder.
    Folder(PathBuf),
}

impl CniArg {
    /// Reads the value of `--cni`.
    ///
    /// # Errors
    /// A text for the user where it is neither a known word nor a folder.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "bridge" => Ok(CniArg::Bridge),
            "none" => Ok(CniArg::None),
            folder if std::path::Path::new(folder).is_dir() => Ok(CniArg::Folder(folder.into())),
            other => Err(format!(
                "`{other}` is neither `bridge`, `none` nor a folder with the manifests of a network plugin"
            )),
        }
    }

    /// Returns what a cluster with this value has.
    pub(crate) fn cni(&self) -> Cni {
        match self {
            CniArg::Bridge => Cni::Bridge,
            CniArg::None => Cni::None,
            CniArg::Folder(_) => Cni::Addon,
        }
    }
}

impl std::fmt::Display for Cni {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cni::Bridge => "bridge",
            Cni::None => "none",
            Cni::Addon => "the plugin of an add-on",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_folders_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(CniArg::parse("bridge"), Ok(CniArg::Bridge));
        assert_eq!(CniArg::parse("none").unwrap().cni(), Cni::None);
        assert_eq!(CniArg::parse(path).unwrap().cni(), Cni::Addon);
        for bad in ["", "None", "calico", "/no/such/folder", "/etc/passwd"] {
            assert!(CniArg::parse(bad).unwrap_err().contains("neither"), "{bad}");
        }
    }
}
