//! Names of container images, by the grammar that Docker, containerd and Kubernetes share
//! (`github.com/distribution/reference`), completed as they complete them: `mysql:5.7` is
//! `docker.io/library/mysql:5.7`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Where names without a registry are looked for.
const DEFAULT_DOMAIN: &str = "docker.io";
/// Another name of the same.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// The part of the default registry that holds names of one word.
const OFFICIAL: &str = "library";
/// The tag of a name without one.
const DEFAULT_TAG: &str = "latest";
/// Registry and path together, by the grammar.
const NAME_LENGTH: usize = 255;
/// A tag, by the grammar.
const TAG_LENGTH: usize = 128;

/// A full name of an image: registry, path, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// The tag; a name without tag and digest has `latest`.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, such as `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Registry and path, without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The registry that the name leads to, such as `docker.io` or `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether Kubernetes pulls it again for every container unless the pod says otherwise.
    pub fn is_always_pulled(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref() == Some(DEFAULT_TAG)
    }

    /// The name as people write it: without `docker.io/library/`.
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

    /// The text says what is wrong with the name, for a sentence that begins with the name.
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
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(check_digest(digest)?)),
        None => (text, None),
    };
    // A colon after the last slash begins the tag; one before it is a registry's port.
    let after_slash = rest.rfind('/').map_or(0, |i| i + 1);
    let (name, tag) = match rest[after_slash..].find(':') {
        Some(i) => {
            let (name, tag) = rest.split_at(after_slash + i);
            (name, Some(check_tag(&tag[1..])?))
        }
        None => (rest, None),
    };
    let (domain, path) = split_domain(name);
    check_domain(&domain)?;
    check_path(&path)?;
    if domain.len() + 1 + path.len() > NAME_LENGTH {
        return Err(format!("it has more than {NAME_LENGTH} characters"));
    }
    let tag = match (tag, &digest) {
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        (tag, _) => tag,
    };
    Ok(Reference {
        domain,
        path,
        tag,
        digest,
    })
}

/// Splits the registry off; the first part of a name is one if nothing else could look like it.
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

fn check_domain(domain: &str) -> Result<(), String> {
    let bad = || format!("`{domain}` is no registry; one looks like host.example:5000");
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(bad)?;
            let fine =
                !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            if !fine {
                return Err(bad());
            }
            match port.strip_prefix(':') {
                None if port.is_empty() => return Ok(()),
                None => return Err(bad()),
                Some(port) => (None, Some(port)),
            }
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        label.bytes().all(inner)
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host_ok = host.is_none_or(|host| host.split('.').all(label));
    let port_ok = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    if host_ok && port_ok {
        Ok(())
    } else {
        Err(bad())
    }
}

/// Words of small letters and digits, joined by `.`, `_`, `__` or any number of `-`, with `/`
/// between the parts.
fn check_path(path: &str) -> Result<(), String> {
    for part in path.split('/') {
        if part.is_empty() {
            return Err("it lacks a part between or around its slashes".into());
        }
        if let Some(c) = part.chars().find(|c| {
            !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'))
        }) {
            return Err(if c.is_ascii_uppercase() {
                "capital letters are not allowed before the tag".into()
            } else {
                format!("`{}` is not allowed in it", c.escape_debug())
            });
        }
        let mut separator = String::new();
        let mut after_word = false;
        for c in part.chars().chain(['\0']) {
            if matches!(c, '.' | '_' | '-') {
                separator.push(c);
                continue;
            }
            let end = c == '\0';
            if !separator.is_empty() {
                let known = matches!(separator.as_str(), "." | "_" | "__")
                    || separator.bytes().all(|b| b == b'-');
                if !after_word || end || !known {
                    return Err(format!(
                        "`{part}` has `{separator}` where a letter or digit must be"
                    ));
                }
                separator.clear();
            }
            after_word = true;
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<String, String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fine = tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
        && tag.len() <= TAG_LENGTH;
    if fine {
        Ok(tag.to_owned())
    } else {
        Err(format!(
            "`{tag}` is no tag; one is up to {TAG_LENGTH} letters, digits and _ . - and begins \
             with none of the last two"
        ))
    }
}

fn check_digest(digest: &str) -> Result<String, String> {
    let fine = ["sha256", "sha384", "sha512"].iter().any(|name| {
        digest
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(':'))
            .is_some_and(|hex| {
                let bits: usize = name["sha".len()..].parse().unwrap_or(0);
                hex.len() * 4 == bits && hex.bytes().all(is_lower_hex)
            })
    });
    if fine {
        Ok(digest.to_owned())
    } else {
        Err(format!(
            "`{digest}` is no digest; one looks like sha256: and 64 hexadecimal digits"
        ))
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
    fn names_are_completed_as_the_kubelet_does_it() {
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
    fn what_the_grammar_refuses_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "empty"),
            ("App", "capital"),
            ("me/App:1", "capital"),
            ("app:", "no tag"),
            ("app:-1", "no tag"),
            ("app:a b", "no tag"),
            ("app:1:2", "no tag"),
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
            ("../a", "no registry"),
            ("host.example:x/app", "no registry"),
            ("-h.example/app", "no registry"),
            ("[::1/app", "no registry"),
            ("[::1]5/app", "no registry"),
            ("https://host/app", "no registry"),
            ("app@sha256:12", "no digest"),
            ("app@md5:d41d8cd98f00b204e9800998ecf8427e", "no digest"),
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
