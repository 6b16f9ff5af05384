//! The paths of objects in the API.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::error::{Error, Result};

/// The characters that need no escape in a segment of a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b':');

/// All objects of a kind, or those of a namespace.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Collection {
    /// The API group; empty for Kubernetes' first one.
    #[serde(default)]
    pub group: String,
    /// Its version.
    pub version: String,
    /// The plural that the API has in its paths, such as `pods`.
    pub plural: String,
    /// The namespace.
    pub namespace: Option<String>,
}

impl Collection {
    /// Returns the path of the list.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for names that would lead elsewhere.
    pub(crate) fn path(&self) -> Result<String> {
        let version = segment(&self.version)?;
        let mut path = match self.group.as_str() {
            "" => format!("/api/{version}"),
            group => format!("/apis/{}/{version}", segment(group)?),
        };
        if let Some(namespace) = &self.namespace {
            path.push_str("/namespaces/");
            path.push_str(&segment(namespace)?);
        }
        path.push('/');
        path.push_str(&segment(&self.plural)?);
        Ok(path)
    }

    /// Returns the path of an object in it.
    ///
    /// # Errors
    /// As [`Collection::path`].
    pub(crate) fn path_of(&self, name: &str) -> Result<String> {
        Ok(format!("{}/{}", self.path()?, segment(name)?))
    }
}

/// Returns a text as one segment of a path, so that it cannot lead elsewhere.
///
/// # Errors
/// [`crate::error::Kind::Usage`] for a text that no object has as its name.
pub(crate) fn segment(text: &str) -> Result<String> {
    if text.is_empty() || matches!(text, "." | "..") || text.contains(['/', '%']) {
        return Err(Error::usage(format!("`{text}` names nothing in the API")));
    }
    Ok(utf8_percent_encode(text, PLAIN).to_string())
}

/// Returns the path of those objects of a list that a selector of labels such as `app=web` selects.
pub(crate) fn selected(path: &str, labels: &str) -> String {
    let labels = utf8_percent_encode(labels, NON_ALPHANUMERIC);
    format!("{path}?labelSelector={labels}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn things(group: &str, namespace: Option<&str>) -> Collection {
        Collection {
            group: group.into(),
            version: "v1".into(),
            plural: "things".into(),
            namespace: namespace.map(str::to_owned),
        }
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let path = |things: Collection, name: &str| things.path_of(name).unwrap();
        assert_eq!(path(things("", None), "a"), "/api/v1/things/a");
        assert_eq!(
            path(things("apps", Some("n")), "a.b-c"),
            "/apis/apps/v1/namespaces/n/things/a.b-c"
        );
        let roles = things("rbac.authorization.k8s.io", None);
        assert_eq!(
            path(roles.clone(), "system:node"),
            "/apis/rbac.authorization.k8s.io/v1/things/system:node"
        );
        assert_eq!(
            roles.path().unwrap(),
            "/apis/rbac.authorization.k8s.io/v1/things"
        );
        let web = selected("/api/v1/pods", "app=web,a/b=c");
        assert_eq!(web, "/api/v1/pods?labelSelector=app%3Dweb%2Ca%2Fb%3Dc");
    }

    #[test]
    fn no_name_leads_elsewhere() {
        for name in ["", ".", "..", "a/b", "a%2fb", "../secrets/x"] {
            assert!(things("", None).path_of(name).is_err(), "{name}");
            assert!(things("", Some(name)).path_of("a").is_err(), "{name}");
        }
        let path = things("", None).path_of("a?watch=1#b c\r\n").unwrap();
        assert_eq!(path, "/api/v1/things/a%3Fwatch%3D1%23b%20c%0D%0A");
    }
}
