//! `docs/threat-model.md` promises a test for each of its lines: they are there.

use std::path::Path;

#[test]
fn every_line_has_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    // A table ends at an empty line: what follows it is no row of it.
    for (line, next) in text.lines().zip(text.lines().skip(1)) {
        let begins = next.starts_with("| ") && !line.starts_with('|');
        assert!(
            !begins || next.ends_with("| tests |"),
            "in no table: {next}"
        );
    }
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let mut lines = 0;
    for row in rows.filter(|row| !row.contains("---") && !row.ends_with("| tests |")) {
        let tests: Vec<(&str, &str)> = row
            .split('`')
            .filter_map(|word| word.split_once(".rs::"))
            .collect();
        assert!(!tests.is_empty(), "no test in: {row}");
        for (file, test) in tests {
            let path = root.join(format!("{file}.rs"));
            let code = std::fs::read_to_string(&path);
            let code = code.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            // Of those on virtual machines the end-to-end tests themselves say that they have run.
            match file.starts_with("tests/e2e/") {
                true => assert!(
                    code.contains(&format!("fn {test}(")),
                    "{file}.rs has no {test}"
                ),
                false => assert!(
                    runs(&code, test),
                    "{file}.rs has no {test} that always runs"
                ),
            }
        }
        lines += 1;
    }
    assert!(lines >= 15, "only {lines} lines");
}

/// Returns whether a file has a test of this name that is not ignored.
fn runs(code: &str, test: &str) -> bool {
    let function = format!("fn {test}(");
    let Some((before, _)) = code.split_once(&function) else {
        return false;
    };
    let lines = before.lines().rev();
    let attributes: Vec<&str> = lines
        .map(str::trim)
        .skip_while(|line| line.is_empty())
        .take_while(|line| line.starts_with("#["))
        .collect();
    attributes.contains(&"#[test]") && !attributes.iter().any(|a| a.starts_with("#[ignore"))
}
