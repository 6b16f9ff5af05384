//! Checksum files as projects publish them.

/// Returns whether `text` is a SHA-256 in hex.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns the SHA-256 of the file `name` in the text of a checksum file, in lower case.
///
/// Understands a bare hash, `HASH  name`, `HASH *name`, and many such lines (`SHA256SUMS`);
/// folders before a name do not count.
///
/// # Errors
/// Says what is wrong when the text has no hash for that name, or two different ones.
pub(crate) fn sha256_of(text: &str, name: &str) -> Result<String, String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect();
    if let [only] = lines[..]
        && is_sha256(only)
    {
        return Ok(only.to_ascii_lowercase());
    }
    let mut found: Option<String> = None;
    for line in &lines {
        let Some((hash, rest)) = line.split_once([' ', '\t']) else {
            continue;
        };
        let rest = rest.trim_start();
        let file = rest.strip_prefix('*').unwrap_or(rest);
        if !is_sha256(hash) || file.rsplit('/').next() != Some(name) {
            continue;
        }
        let hash = hash.to_ascii_lowercase();
        match &found {
            Some(other) if *other != hash => {
                return Err(format!(
                    "the checksum file has two different SHA-256 for {name}"
                ));
            }
            _ => found = Some(hash),
        }
    }
    found.ok_or_else(|| format!("the checksum file has no SHA-256 for {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn the_usual_forms_are_understood() {
        for text in [
            A.to_owned(),
            format!("{A}\n"),
            A.to_uppercase(),
            format!("{A}  f.tgz\n"),
            format!("{A} *f.tgz"),
            format!("{A}\t./release/f.tgz"),
            format!("# sums\n\n{B}  other\r\n{A}  f.tgz\r\n{A}  f.tgz\n"),
        ] {
            assert_eq!(sha256_of(&text, "f.tgz").as_deref(), Ok(A), "{text}");
        }
    }

    #[test]
    fn what_does_not_name_the_file_once_is_refused() {
        for text in [
            String::new(),
            "<html>".to_owned(),
            format!("{B}  other"),
            format!("{A}\n{B}"),
            format!("{}  f.tgz", &A[1..]),
            format!("{A}  xf.tgz"),
            format!("{A}  f.tgz\n{B}  f.tgz"),
            format!("{A}f.tgz"),
        ] {
            assert!(sha256_of(&text, "f.tgz").is_err(), "{text}");
        }
    }
}
