//! Names of container images, by the grammar that Docker, containerd and Kubernetes share
//! (`github.com/distribution/reference`), completed as they complete them: `mysql:5.7` is
//! `docker.io/library/mysql:5.7`.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Serialize, Serializer};

use crate::progress::Progress;

/// The registry of names without one.
const DEFAULT_DOMAIN: &str = "docker.io";
/// Another name of the same registry.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// The part of the default registry that holds names of one word.
const OFFICIAL: &str = "library";
/// The tag of a name without one.
const DEFAULT_TAG: &str = "latest";
/// The longest registry and path together, by the grammar.
const NAME_LENGTH: usize = 255;

/// The grammar of the parts of a name.
struct Grammar {
    /// A registry: host names or an IPv6 address, and a port.
    domain: Regex,
    /// The valid beginning of a part of a path: words of small letters and digits, joined by `.`,
    /// `_`, `__` or any number of `-`.
    path_part: Regex,
    tag: Regex,
    digest: Regex,
}

static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| {
    let label = "[0-9A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?";
    let regex = |text: &str| Regex::new(text).expect("a test uses each of them");
    Grammar {
        domain: regex(&format!(
            r"^(?:{label}(?:\.{label})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?$"
        )),
        path_part: regex(r"^[0-9a-z]+(?:(?:\.|__?|-+)[0-9a-z]+)*"),
        tag: regex(r"^[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$"),
        digest: regex("^sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$"),
    }
});

/// A full name of an image: registry, path, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Returns the tag; a name without tag and digest has `latest`.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, such as `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Returns registry and path, without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns the registry of the name, such as `docker.io` or `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns whether Kubernetes pulls it again for every container unless the pod says otherwise.
    pub fn is_always_pulled(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref() == Some(DEFAULT_TAG)
    }

    /// Returns the name as people write it: without `docker.io/library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else {
            return full;
        };
        match rest.strip_prefix("library/") {
            Some(short) if !self.path["library/".len()..].contains('/') => short.to_owned(),
            _ => rest.to_owned(),
        }
    }

    /// Warns if pods pull this image again for every container, although the node has it.
    pub fn warn_if_always_pulled(&self, progress: &dyn Progress) {
        if self.is_always_pulled() {
            progress.warn(&format!(
                "Kubernetes pulls {} from its registry for every container, since its tag is \
                 `latest`; set `imagePullPolicy: IfNotPresent` in the pod or give the image \
                 another tag",
                self.familiar()
            ));
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Reference {
    type Err = String;

    /// Parses a name. The error is a sentence that begins with the name.
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map_err(|why| format!("`{text}` is not an image name: {why}"))
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.len() == 64 && text.bytes().all(is_lower_hex) {
        return Err("64 hexadecimal digits are an image's id; a name looks like app:1.0".into());
    }
    let (rest, digest) = text.split_once('@').unzip();
    let rest = rest.unwrap_or(text);
    if let Some(digest) = digest.filter(|digest| !GRAMMAR.digest.is_match(digest)) {
        let example = "sha256: and 64 hexadecimal digits";
        return Err(format!(
            "`{digest}` is not a digest; one looks like {example}"
        ));
    }
    // A colon after the last slash begins the tag; one before it is a registry's port.
    let after_slash = rest.rfind('/').map_or(0, |i| i + 1);
    let (name, tag) = match rest[after_slash..].find(':') {
        Some(i) => (&rest[..after_slash + i], Some(&rest[after_slash + i + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag.filter(|tag| !GRAMMAR.tag.is_match(tag)) {
        return Err(format!(
            "`{tag}` is not a tag; one is up to 128 letters, digits and _ . - and begins with \
             neither . nor -"
        ));
    }
    let (domain, path) = split_domain(name);
    if !GRAMMAR.domain.is_match(&domain) {
        let example = "host.example:5000";
        return Err(format!(
            "`{domain}` is not a registry; one looks like {example}"
        ));
    }
    check_path(&path)?;
    if domain.len() + 1 + path.len() > NAME_LENGTH {
        return Err(format!("it has more than {NAME_LENGTH} characters"));
    }
    let usual_tag = digest.is_none().then_some(DEFAULT_TAG);
    Ok(Reference {
        domain,
        path,
        tag: tag.or(usual_tag).map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

/// Splits the registry off; the first part of a name is a registry if it can be nothing else.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    if domain == DEFAULT_DOMAIN || domain == LEGACY_DEFAULT_DOMAIN {
        let path = if path.contains('/') {
            path.to_owned()
        } else {
            format!("{OFFICIAL}/{path}")
        };
        return (DEFAULT_DOMAIN.to_owned(), path);
    }
    (domain.to_owned(), path.to_owned())
}

fn check_path(path: &str) -> Result<(), String> {
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    for part in path.split('/') {
        if part.is_empty() {
            return Err("it lacks a part between or around its slashes".into());
        }
        if let Some(c) = part.chars().find(|c| !allowed(*c)) {
            return Err(if c.is_ascii_uppercase() {
                "capital letters are not allowed before the tag".into()
            } else {
                format!("`{}` is not allowed in it", c.escape_debug())
            });
        }
        let good = GRAMMAR.path_part.find(part).map_or(0, |found| found.end());
        let rest = &part[good..];
        if !rest.is_empty() {
            let end = rest.find(|c: char| c.is_ascii_alphanumeric());
            let separator = &rest[..end.unwrap_or(rest.len())];
            return Err(format!(
                "`{part}` has `{separator}` where a letter or digit must be"
            ));
        }
    }
    Ok(())
}

/// Parses a name to give to an image. It cannot have a digest, which follows from the content.
pub(crate) fn tagged(text: &str) -> Result<Reference, String> {
    let name: Reference = text.parse()?;
    match name.digest() {
        None => Ok(name),
        Some(_) => Err("a digest follows from the content; give a name with a tag".into()),
    }
}

pub(super) fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn full(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn names_are_completed_as_by_the_kubelet() {
        for (text, expected) in [
            ("mysql:5.7", "docker.io/library/mysql:5.7"),
            ("mysql", "docker.io/library/mysql:latest"),
            ("me/app", "docker.io/me/app:latest"),
            ("a/b/c:1", "docker.io/a/b/c:1"),
            ("docker.io/mysql", "docker.io/library/mysql:latest"),
            ("index.docker.io/me/app:1", "docker.io/me/app:1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("Host/app", "Host/app:latest"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
            ("[fe80::1]/app:1", "[fe80::1]/app:1"),
            (
                "a_b/c__d/e-f/g---h/i.j:A_b.C-d",
                "docker.io/a_b/c__d/e-f/g---h/i.j:A_b.C-d",
            ),
            ("localhost", "docker.io/library/localhost:latest"),
        ] {
            assert_eq!(full(text), expected, "{text}");
            assert_eq!(full(expected), expected, "a full name stays as it is");
        }
        let by_digest = format!("app@{DIGEST}");
        assert_eq!(full(&by_digest), format!("docker.io/library/{by_digest}"));
        let both = format!("app:1@{DIGEST}");
        assert_eq!(full(&both), format!("docker.io/library/{both}"));
    }

    #[test]
    fn names_outside_the_grammar_are_refused_with_the_reason() {
        for (text, why) in [
            ("", "empty"),
            ("App", "capital"),
            ("me/App:1", "capital"),
            ("app:", "not a tag"),
            ("app:-1", "not a tag"),
            ("app:a b", "not a tag"),
            ("app:1:2", "not a tag"),
            ("app b", "` ` is not allowed"),
            ("app\n", "`\\n` is not allowed"),
            ("$(id)", "is not allowed"),
            ("-app", "where a letter"),
            ("--all", "where a letter"),
            ("app-", "where a letter"),
            ("a..b", "where a letter"),
            ("a___b", "where a letter"),
            ("a._b", "where a letter"),
            ("a//b", "slashes"),
            ("/a", "slashes"),
            ("a/", "slashes"),
            ("../a", "not a registry"),
            ("host.example:x/app", "not a registry"),
            ("-h.example/app", "not a registry"),
            ("[::1/app", "not a registry"),
            ("[::1]5/app", "not a registry"),
            ("https://host/app", "not a registry"),
            ("app@sha256:12", "not a digest"),
            ("app@md5:d41d8cd98f00b204e9800998ecf8427e", "not a digest"),
            ("äpp", "is not allowed"),
            (&DIGEST["sha256:".len()..], "id"),
        ] {
            let e = text.parse::<Reference>().unwrap_err();
            assert!(e.contains(why), "{text:?}: {e}");
        }
        assert!("a".repeat(300).parse::<Reference>().is_err());
        assert!(
            format!("a:{}", "b".repeat(129))
                .parse::<Reference>()
                .is_err()
        );
        assert!(
            format!("a:{}", "b".repeat(128))
                .parse::<Reference>()
                .is_ok()
        );
    }

    #[test]
    fn short_names_are_what_people_write() {
        for (text, familiar) in [
            ("mysql:5.7", "mysql:5.7"),
            ("me/app:1", "me/app:1"),
            ("library/a/b:1", "library/a/b:1"),
            ("quay.io/a/b:1", "quay.io/a/b:1"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(full(&reference.familiar()), reference.to_string());
        }
    }

    #[test]
    fn only_latest_is_pulled_always() {
        let always = |text: &str| text.parse::<Reference>().unwrap().is_always_pulled();
        assert!(always("app") && always("app:latest"));
        assert!(!always("app:1") && !always(&format!("app:latest@{DIGEST}")));
        assert!(!always(&format!("app@{DIGEST}")));
    }
}
