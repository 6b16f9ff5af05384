//! The names that users give: of profiles and of snapshots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The profile that commands use unless `--profile` names another.
pub(crate) const DEFAULT_PROFILE: &str = "kubby";

/// A checked profile name: lower-case letters, digits and inner hyphens, 1 to 40 characters, so
/// that it can be part of file, domain, volume and context names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ProfileName(String);

impl ProfileName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the cluster's context and domain, with which its volumes' names begin:
    /// `kubby` for the default profile, `kubby-dev` for the profile `dev`.
    pub fn resource_name(&self) -> String {
        if self.0 == DEFAULT_PROFILE {
            self.0.clone()
        } else {
            format!("{DEFAULT_PROFILE}-{}", self.0)
        }
    }

    /// Returns the profile that has this [`resource_name`](Self::resource_name).
    pub fn of_resource(name: &str) -> Option<Self> {
        if name == DEFAULT_PROFILE {
            return Some(ProfileName::default());
        }
        let rest = name.strip_prefix(DEFAULT_PROFILE)?.strip_prefix('-')?;
        let profile: Self = rest.parse().ok()?;
        (profile.resource_name() == name).then_some(profile)
    }

    /// Returns the flag that selects this profile, for commands in messages: empty for the default.
    pub fn flag(&self) -> String {
        if self.0 == DEFAULT_PROFILE {
            String::new()
        } else {
            format!(" -p {}", self.0)
        }
    }
}

impl Default for ProfileName {
    fn default() -> Self {
        ProfileName(DEFAULT_PROFILE.to_owned())
    }
}

impl FromStr for ProfileName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        checked(text, "a profile").map(ProfileName)
    }
}

impl TryFrom<String> for ProfileName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A checked snapshot name: the same characters as a profile's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SnapshotName(String);

impl SnapshotName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        checked(text, "a snapshot").map(SnapshotName)
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the text if it can be a name; the error names the kind of name that was asked for.
///
/// # Errors
/// A sentence that begins with the text.
pub(crate) fn checked(text: &str, kind: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty()
        || text.len() > 40
        || !text.chars().all(good)
        || text.starts_with('-')
        || text.ends_with('-')
    {
        return Err(format!(
            "`{text}` is not {kind} name; use 1 to 40 lower-case letters, digits and inner hyphens"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["kubby", "a", "dev-1", "0", &"a".repeat(40)] {
            assert!(good.parse::<ProfileName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a/b",
            "..",
            "a b",
            "ä",
            "a\n",
            &"a".repeat(41),
        ] {
            assert!(bad.parse::<ProfileName>().is_err(), "{bad}");
            let e = bad.parse::<SnapshotName>().unwrap_err();
            assert!(e.contains("is not a snapshot name"), "{e}");
        }
    }

    #[test]
    fn resources_are_named_after_the_profile() {
        assert_eq!(ProfileName::default().resource_name(), "kubby");
        let dev: ProfileName = "dev".parse().unwrap();
        assert_eq!(dev.resource_name(), "kubby-dev");
        assert_eq!(dev.flag(), " -p dev");
        assert_eq!(ProfileName::of_resource("kubby-dev"), Some(dev));
        assert_eq!(
            ProfileName::of_resource("kubby"),
            Some(ProfileName::default())
        );
        for other in ["dev", "kubbydev", "kubby-", "kubby-A", "kubby-kubby"] {
            assert_eq!(ProfileName::of_resource(other), None, "{other}");
        }
    }
}
