//! Kubernetes versions that kubby knows how to run.

use std::fmt;
use std::str::FromStr;

/// The version that `kubby start` installs by default.
pub const DEFAULT: KubernetesVersion = KubernetesVersion {
    minor: 37,
    patch: 2,
};

/// The oldest supported minor version of Kubernetes 1.
pub(crate) const OLDEST_MINOR: u32 = 34;

/// The newest minor version that this kubby was made for.
pub(crate) const NEWEST_MINOR: u32 = 37;

/// A release of Kubernetes 1, such as v1.37.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KubernetesVersion {
    /// The minor version: 37 in v1.37.2.
    pub minor: u32,
    /// The patch version: 2 in v1.37.2.
    pub patch: u32,
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}.{}", self.minor, self.patch)
    }
}

impl FromStr for KubernetesVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.strip_prefix('v').unwrap_or(text).split('.');
        // `parse` alone would take `+3` and leading zeros, which are not semantic versions.
        let number = |part: &str| part.parse().ok().filter(|n: &u32| n.to_string() == part);
        let numbers: Option<Vec<u32>> = parts.map(number).collect();
        let Some(&[major, minor, patch]) = numbers.as_deref() else {
            return Err(format!(
                "`{text}` is not a Kubernetes version; write it like {DEFAULT}"
            ));
        };
        if major != 1 || !(OLDEST_MINOR..=NEWEST_MINOR).contains(&minor) {
            return Err(format!(
                "Kubernetes v{major}.{minor}.{patch} is not supported; this kubby runs v1.{OLDEST_MINOR} to v1.{NEWEST_MINOR}"
            ));
        }
        Ok(KubernetesVersion { minor, patch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_with_and_without_v() {
        assert_eq!("v1.37.2".parse(), Ok(DEFAULT));
        assert_eq!(
            "1.34.0".parse(),
            Ok(KubernetesVersion {
                minor: 34,
                patch: 0
            })
        );
        assert_eq!(DEFAULT.to_string(), "v1.37.2");
    }

    #[test]
    fn nonsense_and_unsupported_versions_are_distinguished() {
        for text in [
            "",
            "latest",
            "1.37",
            "v1.37.2.1",
            "v1.37.x",
            "1.+37.2",
            "v1.037.2",
            "v1.37.2-rc.0",
        ] {
            let e = text.parse::<KubernetesVersion>().unwrap_err();
            assert!(e.contains("is not a Kubernetes version"), "{text}: {e}");
        }
        for text in ["v1.33.9", "v1.38.0", "v2.0.0", "0.37.2"] {
            let e = text.parse::<KubernetesVersion>().unwrap_err();
            assert!(e.contains("not supported"), "{text}: {e}");
        }
    }
}
