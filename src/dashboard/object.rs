//! Which object of the API is meant, and where it is.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// What a segment of a path may hold as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b':');

/// A kind of objects, all of them or those of a namespace.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Kinds {
    /// The API group; empty for Kubernetes' first one.
    #[serde(default)]
    pub(super) group: String,
    /// Its version.
    pub(super) version: String,
    /// The plural that the API has in its paths, such as `pods`.
    pub(super) plural: String,
    /// The namespace.
    pub(super) namespace: Option<String>,
}

/// One object.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Object {
    /// Its kind, and the namespace where it is in one.
    #[serde(flatten)]
    pub(super) of: Kinds,
    /// Its name.
    pub(super) name: String,
}

impl Kinds {
    /// The path of the list.
    pub(super) fn path(&self) -> Result<String> {
        let mut path = match self.group.as_str() {
            "" => format!("/api/{}", segment(&self.version)?),
            group => format!("/apis/{}/{}", segment(group)?, segment(&self.version)?),
        };
        if let Some(namespace) = &self.namespace {
            path.push_str("/namespaces/");
            path.push_str(&segment(namespace)?);
        }
        path.push('/');
        path.push_str(&segment(&self.plural)?);
        Ok(path)
    }
}

impl Object {
    /// The path of the object.
    pub(super) fn path(&self) -> Result<String> {
        Ok(format!("{}/{}", self.of.path()?, segment(&self.name)?))
    }

    /// Whether its values are secret.
    pub(super) fn is_secret(&self) -> bool {
        self.of.group.is_empty() && self.of.plural == "secrets"
    }
}

/// One segment of a path: whatever the text is, it leads nowhere else.
pub(super) fn segment(text: &str) -> Result<String> {
    if text.is_empty() || matches!(text, "." | "..") || text.contains(['/', '%']) {
        return Err(Error::new(
            Kind::Usage,
            format!("`{text}` names nothing in the API"),
        ));
    }
    Ok(utf8_percent_encode(text, PLAIN).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(group: &str, namespace: Option<&str>, name: &str) -> Object {
        Object {
            of: Kinds {
                group: group.into(),
                version: "v1".into(),
                plural: "things".into(),
                namespace: namespace.map(str::to_owned),
            },
            name: name.into(),
        }
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let path = |o: Object| o.path().unwrap();
        assert_eq!(path(object("", None, "a")), "/api/v1/things/a");
        assert_eq!(
            path(object("apps", Some("n"), "a.b-c")),
            "/apis/apps/v1/namespaces/n/things/a.b-c"
        );
        let role = object("rbac.authorization.k8s.io", None, "system:node");
        assert_eq!(
            path(role.clone()),
            "/apis/rbac.authorization.k8s.io/v1/things/system:node"
        );
        assert_eq!(
            role.of.path().unwrap(),
            "/apis/rbac.authorization.k8s.io/v1/things"
        );
    }

    #[test]
    fn no_name_leads_elsewhere() {
        for name in ["", ".", "..", "a/b", "a%2fb", "../secrets/x"] {
            assert!(object("", None, name).path().is_err(), "{name}");
            assert!(object("", Some(name), "a").path().is_err(), "{name}");
        }
        let path = object("", None, "a?watch=1#b c\r\n").path().unwrap();
        assert_eq!(path, "/api/v1/things/a%3Fwatch%3D1%23b%20c%0D%0A");
    }
}
