//! Leaving secrets out of text: those that are known, and what looks like one.

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;
use serde_json::Value;

use crate::egress::address::Address;
use crate::store::ProfileDir;

/// The text in the place of a secret.
pub(super) const LEFT_OUT: &str = "(left out)";

/// Shorter values are words of everyday use rather than secrets.
const SHORTEST: usize = 6;

/// The longest text that a private key without an end is taken for, in bytes.
const LONGEST_KEY: usize = 16 * 1024;

/// The beginning of a PEM block.
const BEGIN: &str = "-----BEGIN ";

/// The patterns of secrets, with their replacements.
static SHAPES: LazyLock<Vec<(Regex, String)>> = LazyLock::new(|| {
    [
        // Passwords in URLs.
        (r#"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/"'<>]*@"#, "${1}X@"),
        // JSON web tokens: service accounts have them.
        (r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+", "X"),
        // PEM in base64, as kubeconfigs have it.
        (r"LS0tLS1CRUdJTi[\w+/=]+", "X"),
        // Bootstrap tokens.
        (r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b", "X"),
        // Keys of well-known services.
        (r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|glpat-[\w-]{20,})", "X"),
        (
            r#"(?i)\b((?:proxy-)?authorization["']?[ \t]*[:=][ \t]*["']?)(?:(?:bearer|basic)[ \t]+)?[^\s"',;]+"#,
            "${1}X",
        ),
        (r"(?i)\b((?:bearer|basic)[ \t]+)[\w.~+/=-]{8,}", "${1}X"),
        (
            r#"(?i)([\w.-]*(?:password|passwd|passphrase|secret|token|credential|(?:api|access)[_-]?key)[\w.-]*["']?[ \t]*[=:][ \t]*)("[^"]*"|'[^']*'|[^\s,;&"'}]+)"#,
            "${1}X",
        ),
    ]
    .into_iter()
    .filter_map(|(shape, becomes)| {
        // The tests see that each of them is a regular expression.
        let shape = Regex::new(shape).ok()?;
        Some((shape, becomes.replace('X', LEFT_OUT)))
    })
    .collect()
});

/// A name that a secret usually has.
static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)password|passwd|passphrase|secret|token|credential|(api|access|private)[_-]?key",
    )
    .ok()
});

/// Whether a value of this name is likely a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    NAME.as_ref().is_some_and(|shape| shape.is_match(name))
}

/// The secrets that are known.
#[derive(Default)]
pub(super) struct Redactor {
    known: Vec<String>,
}

impl Redactor {
    /// With those of a cluster's folder and of this process's environment.
    pub(super) fn new(dir: &ProfileDir) -> Self {
        let mut redactor = Redactor::default();
        let others = std::fs::read_dir(dir.root().join("nodes"));
        let others = others.into_iter().flatten().flatten();
        let others = others.map(|entry| ProfileDir::at(entry.path()));
        for dir in [dir.clone()].into_iter().chain(others) {
            redactor.add_keys(&dir.pki());
            redactor.add_keys(&dir.root().join("ssh"));
            redactor.add(&std::fs::read_to_string(dir.link_key()).unwrap_or_default());
        }
        for (name, value) in std::env::vars() {
            redactor.add_variable(&name, &value);
        }
        redactor
    }

    /// Adds a secret value, which is left out as it is and in base64.
    pub(super) fn add(&mut self, value: &str) {
        let value = value.trim();
        let known = &mut self.known;
        let mut add = |text: &str| {
            if text.len() >= SHORTEST && !known.iter().any(|k| k == text) {
                known.push(text.to_owned());
            }
        };
        add(value);
        // Logs have one line each, and JSON has its own way with line breaks.
        if value.contains('\n') {
            value
                .lines()
                .map(str::trim)
                .filter(|l| l.len() >= 16)
                .for_each(&mut add);
        }
        add(base64::engine::general_purpose::STANDARD
            .encode(value)
            .trim_end_matches('='));
    }

    /// The password of a proxy, and the value of a variable that is named like a secret.
    fn add_variable(&mut self, name: &str, value: &str) {
        if name.to_ascii_lowercase().ends_with("_proxy") {
            let user = Address::parse(value.trim(), "http")
                .ok()
                .and_then(|a| a.user);
            if let Some((_, password)) = user.as_deref().and_then(|u| u.split_once(':')) {
                self.add(password);
            }
        } else if is_secret_name(name) && !Path::new(value).exists() {
            self.add(value);
        }
    }

    /// The lines of the private keys in a folder.
    fn add_keys(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            if text.contains("PRIVATE KEY-----") {
                let lines = text.lines();
                lines
                    .filter(|l| l.len() >= 16 && !l.starts_with("-----"))
                    .for_each(|line| self.add(line));
            }
        }
    }

    /// The text without secrets.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = without_keys(text);
        // The longest first: one may be part of another.
        let mut known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        known.sort_by_key(|k| std::cmp::Reverse(k.len()));
        for secret in known {
            if text.contains(secret) {
                text = text.replace(secret, LEFT_OUT);
            }
        }
        for (shape, becomes) in SHAPES.iter() {
            if let std::borrow::Cow::Owned(changed) = shape.replace_all(&text, becomes) {
                text = changed;
            }
        }
        text
    }

    /// The value, with every text in it without secrets.
    pub(super) fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.json(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The text without PEM blocks of private keys, whatever stands at the beginning of their lines.
fn without_keys(text: &str) -> String {
    let mut blocks = text.split(BEGIN);
    let mut out = blocks.next().unwrap_or_default().to_owned();
    for block in blocks {
        let label = block.split("-----").next().unwrap_or_default();
        if !label.contains("PRIVATE KEY") {
            out.push_str(BEGIN);
            out.push_str(block);
            continue;
        }
        out.push_str(LEFT_OUT);
        match block.split_once("-----END ") {
            Some((key, end)) if key.len() < LONGEST_KEY => {
                out.push_str(end.split_once("-----").map_or("", |(_, rest)| rest));
            }
            _ => out.extend(
                block
                    .char_indices()
                    .filter(|(i, _)| *i >= LONGEST_KEY)
                    .map(|(_, c)| c),
            ),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_secrets_are_left_out() {
        assert_eq!(SHAPES.len(), 8);
        assert!(NAME.is_some());
        let none = Redactor::default();
        for (text, becomes) in [
            (
                "proxy http://me:s3cr@et@p.example:1/x",
                "proxy http://(left out)@p.example:1/x",
            ),
            (
                "got eyJhbGciOiJSUzI1.eyJpc3MiOiJr.c2ln-x_y, ok",
                "got (left out), ok",
            ),
            (
                "client-key-data: LS0tLS1CRUdJTiBFQw==",
                "client-key-data: (left out)",
            ),
            ("--token abcdef.0123456789abcdef", "--token (left out)"),
            ("key AKIAIOSFODNN7EXAMPLE.", "key (left out)."),
            ("Authorization: Bearer abc", "Authorization: (left out)"),
            ("sent Bearer abcdefgh1", "sent Bearer (left out)"),
            (
                "MYSQL_ROOT_PASSWORD=very$secret next",
                "MYSQL_ROOT_PASSWORD=(left out) next",
            ),
            (
                r#"{"password":"a b","x":1}"#,
                r#"{"password":(left out),"x":1}"#,
            ),
            ("--api-key=abc --v=2", "--api-key=(left out) --v=2"),
        ] {
            assert_eq!(none.text(text), becomes);
        }
        for plain in [
            "Started kubelet.service - kubelet.",
            "https://127.0.0.1:6443/api?limit=5",
            "image registry.k8s.io/pause:3.10.2 at 10.0.2.15",
            "user@host",
        ] {
            assert_eq!(none.text(plain), plain);
        }
    }

    #[test]
    fn private_keys_are_left_out_with_and_without_an_end() {
        let key = "-----BEGIN EC PRIVATE KEY-----\nAAAA\nBBBB\n-----END EC PRIVATE KEY-----";
        let none = Redactor::default();
        assert_eq!(none.text(&format!("a\n{key}\nb")), "a\n(left out)\nb");
        assert_eq!(none.text(&key[..40]), LEFT_OUT);
        let certificate = key.replace("EC PRIVATE KEY", "CERTIFICATE");
        assert_eq!(none.text(&certificate), certificate);
        let endless = format!("{}{}", &key[..40], "ä".repeat(LONGEST_KEY));
        assert!(!none.text(&endless).contains("AAAA"));
        let foreign = format!("-----BEGIN {}", "ä".repeat(40));
        assert_eq!(none.text(&foreign), foreign);
    }

    #[test]
    fn known_secrets_are_left_out_wherever_they_stand() {
        let mut redactor = Redactor::default();
        redactor.add("tr0ub4dor&3\n");
        redactor.add("first line of it!\nsecond line of it");
        redactor.add("short");
        redactor.add_variable("HTTPS_PROXY", "http://me:pr0xyp4ss@10.0.0.1:3128");
        redactor.add_variable("CI_JOB_TOKEN", "glcbt-1234");
        redactor.add_variable("HOME_DIR", "a-folder");
        assert_eq!(redactor.text("<tr0ub4dor&3>"), "<(left out)>");
        assert_eq!(redactor.text("dHIwdWI0ZG9yJjM="), "(left out)=");
        assert_eq!(redactor.text("x second line of it"), "x (left out)");
        assert_eq!(
            redactor.text("a short one, a-folder"),
            "a short one, a-folder"
        );
        assert_eq!(
            redactor.text("pr0xyp4ss glcbt-1234"),
            "(left out) (left out)"
        );
        let mut value = serde_json::json!({"a": ["tr0ub4dor&3", 1, {"b": "is tr0ub4dor&3"}]});
        redactor.json(&mut value);
        assert_eq!(
            value,
            serde_json::json!({"a": [LEFT_OUT, 1, {"b": "is (left out)"}]})
        );
    }
}
