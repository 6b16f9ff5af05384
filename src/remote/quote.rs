//! Words and commands for a POSIX shell.

/// Quotes one word so that a POSIX shell takes it literally.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Joins the words of a command line with spaces and nothing else, as OpenSSH's `ssh` does: the
/// shell in the node interprets the result, so `'a && b'` in one word works as two commands.
pub(crate) fn join(argv: &[String]) -> String {
    argv.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_through_a_real_shell_unchanged() {
        for word in [
            "",
            "plain",
            "/a/b-c_d.e",
            "two words",
            "it's",
            "'",
            "''",
            "$HOME",
            "`id`",
            "a\nb",
            "*",
            "~",
            "a;b",
            "\\",
            "\"",
            "ä",
            "-n",
            "#x",
            "!x",
            "a=b",
            "{a,b}",
        ] {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s. {}", quote(word))])
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8(output.stdout).unwrap(),
                format!("{word}.")
            );
        }
    }

    #[test]
    fn only_what_needs_quotes_gets_them() {
        for (word, quoted) in [
            ("a/b", "a/b"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }

    #[test]
    fn joining_adds_no_quotes() {
        let argv = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(join(&argv(&["pgrep", "-l", "etcd"])), "pgrep -l etcd");
        assert_eq!(join(&argv(&["a && b"])), "a && b");
        assert_eq!(join(&argv(&[])), "");
    }
}
