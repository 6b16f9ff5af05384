//! The wording of comments, messages and documents: the mechanical part of docs/style.md.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Folders and files that have not been reworded yet.
const NOT_DONE: &[&str] = &[];

/// A list of words that are not used, and what to write instead.
struct Rule {
    words: Vec<String>,
    instead: String,
    exceptions: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rules() -> Vec<Rule> {
    let style = fs::read_to_string(root().join("docs/style.md")).expect("docs/style.md");
    let (_, block) = style.split_once("```words\n").expect("the list of words");
    let (block, _) = block.split_once("```").expect("the end of the list");
    let list = |text: &str| text.split(", ").map(|w| w.trim().to_lowercase()).collect();
    let rule = |line: &str| {
        let (words, rest) = line.split_once(" -> ").expect(line);
        let (instead, exceptions) = rest.split_once('[').unwrap_or((rest, ""));
        Rule {
            words: list(words),
            instead: instead.trim().to_owned(),
            exceptions: list(exceptions.trim_end_matches(']')),
        }
    };
    block.lines().map(rule).collect()
}

/// Returns a pattern that matches any of the phrases as whole words, over line breaks too.
fn pattern<'a>(phrases: impl Iterator<Item = &'a String>) -> Regex {
    let phrases: Vec<String> = phrases
        .filter(|phrase| !phrase.is_empty())
        .map(|phrase| {
            let words: Vec<String> = phrase.split(' ').map(regex::escape).collect();
            words.join(r"\s+")
        })
        .collect();
    Regex::new(&format!(r"(?i)\b(?:{})\b", phrases.join("|"))).expect("a pattern")
}

/// Returns the files with one of these endings below a folder, or the file itself.
fn files(path: &Path, endings: &[&str]) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    entries
        .into_iter()
        .filter(|entry| {
            let ending = entry.extension().map_or("", |e| e.to_str().unwrap_or("?"));
            entry.is_dir() || endings.contains(&ending)
        })
        .flat_map(|entry| files(&entry, endings))
        .collect()
}

/// Replaces all but line breaks by spaces, so that positions stay.
fn blank(text: &str) -> String {
    let keep = |c: char| if c == '\n' { '\n' } else { ' ' };
    text.chars().map(keep).collect()
}

/// Returns Rust source in which all but comments and texts is blank. A literal without a space is an
/// identifier of something, not a text.
fn prose_of_rust(source: &str) -> String {
    let token = Regex::new(concat!(
        r##"(?s)(?P<comment>//[^\n]*)|(?P<raw>b?r#+".*?"#+)"##,
        r##"|(?P<text>"(?:\\.|[^"\\])*")|'(?:\\.[^']*|[^'\\])'"##
    ))
    .expect("a pattern");
    let placeholder = Regex::new(r"\{[^{}]*\}").expect("a pattern");
    let mut prose = String::new();
    let mut end = 0;
    for token in token.captures_iter(source) {
        let whole = token.get(0).expect("a match");
        prose.push_str(&blank(&source[end..whole.start()]));
        end = whole.end();
        let text = whole.as_str();
        if token.name("comment").is_some() {
            let body = text.trim_start_matches(['/', '!']);
            prose.push_str(&" ".repeat(text.len() - body.len()));
            prose.push_str(body);
        } else if text.len() > 3 && text.contains(' ') {
            let text = text.replace("\\n", "  ").replace('\\', " ");
            prose.push_str(
                &placeholder.replace_all(&text, |found: &regex::Captures<'_>| blank(&found[0])),
            );
        } else {
            prose.push_str(&blank(text));
        }
    }
    prose.push_str(&blank(&source[end..]));
    prose
}

/// Returns the comments of a shell script, TOML or YAML file, and what scripts print.
fn prose_of_script(source: &str) -> String {
    let prose = |line: &str| match line.trim_start().starts_with('#') {
        true => line.replace('#', " "),
        false => line.to_owned(),
    };
    source.lines().map(prose).collect::<Vec<_>>().join("\n")
}

/// Returns a document without its examples of bad style and the list of words.
fn prose_of_document(source: &str) -> String {
    let bad = Regex::new(r"(?s)```(?:words|incorrect)\n.*?```").expect("a pattern");
    bad.replace_all(source, |found: &regex::Captures<'_>| blank(&found[0]))
        .into_owned()
}

/// Returns all files that are checked, with their prose.
fn checked() -> Vec<(String, String)> {
    type Prose = fn(&str) -> String;
    let places: [(&str, &[&str], Prose); 8] = [
        ("src", &["rs"], prose_of_rust),
        ("scripts", &["rs"], prose_of_rust),
        ("scripts", &["", "sh"], prose_of_script),
        ("images", &["toml", "yaml", "sh"], prose_of_script),
        ("docs", &["md"], prose_of_document),
        ("README.md", &[], prose_of_document),
        ("CHANGELOG.md", &[], prose_of_document),
        ("CONTRIBUTING.md", &[], prose_of_document),
    ];
    let code = Regex::new(r"`[^`\n]*`").expect("a pattern");
    let mut all = Vec::new();
    for (place, endings, prose) in places {
        for file in files(&root().join(place), endings) {
            let name = file.strip_prefix(root()).expect("below the root");
            let name = name.display().to_string();
            let Ok(source) = fs::read_to_string(&file) else {
                continue;
            };
            if NOT_DONE.iter().any(|begin| name.starts_with(begin)) {
                continue;
            }
            let text = prose(&source);
            let text = code.replace_all(&text, |found: &regex::Captures<'_>| blank(&found[0]));
            all.push((name, text.into_owned()));
        }
    }
    assert!(all.len() > 50, "only {} files", all.len());
    all
}

#[test]
fn words_of_the_list_are_not_used() {
    let rules = rules();
    assert!(rules.len() > 10);
    let exceptions = pattern(rules.iter().flat_map(|rule| &rule.exceptions));
    let words = pattern(rules.iter().flat_map(|rule| &rule.words));
    let mut found = String::new();
    let mut count = 0;
    for (file, text) in checked() {
        let text = exceptions.replace_all(&text, |hit: &regex::Captures<'_>| blank(&hit[0]));
        for hit in words.find_iter(&text) {
            let line = text[..hit.start()].matches('\n').count() + 1;
            let words: Vec<&str> = hit.as_str().split_whitespace().collect();
            let words = words.join(" ").to_lowercase();
            let rule = rules.iter().find(|rule| rule.words.contains(&words));
            let instead = rule.map_or("", |rule| &rule.instead);
            let _ = writeln!(found, "{file}:{line}: `{words}`: {instead}");
            count += 1;
        }
    }
    assert!(
        count == 0,
        "{count} words of docs/style.md's list:\n{found}"
    );
}

#[test]
fn doc_comments_begin_with_a_verb_or_a_noun() {
    let clause = Regex::new(r"^(What|Who|Whose|How|Where|Why|When)\b").expect("a pattern");
    let mut found = String::new();
    let mut count = 0;
    for file in files(&root().join("src"), &["rs"]) {
        let name = file.strip_prefix(root()).expect("below the root");
        let name = name.display().to_string();
        if NOT_DONE.iter().any(|begin| name.starts_with(begin)) {
            continue;
        }
        let source = fs::read_to_string(&file).expect("a source file");
        let doc = |line: &str| {
            let line = line.trim_start();
            let text = line
                .strip_prefix("///")
                .or_else(|| line.strip_prefix("//!"));
            text.map(|text| text.trim().to_owned())
        };
        let mut before = None;
        for (number, line) in source.lines().enumerate() {
            let text = doc(line);
            if let Some(text) = &text
                && before.is_none()
                && clause.is_match(text)
            {
                let _ = writeln!(
                    found,
                    "{name}:{}: begin with a verb (Returns …) or a noun (The …): {text}",
                    number + 1
                );
                count += 1;
            }
            before = text;
        }
    }
    assert!(
        count == 0,
        "{count} doc comments begin with a clause:\n{found}"
    );
}

#[test]
fn only_prose_is_checked() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (source, prose) in [
        ("/// Tells it.\nlet told = 'a'; // anew", "Tells it. anew"),
        ("f(\"told\", \"is {told} no\\n  way\")", "\"is no way\""),
        ("let c: &'a str = '\"'; let told = '\\''; // on", "on"),
        ("\"goes \\\n    on\"", "\"goes on\""),
    ] {
        assert_eq!(words(&prose_of_rust(source)), prose, "{source}");
    }
    assert_eq!(
        words(&prose_of_document("a\n```words\nanew\n```\nb")),
        "a b"
    );
    let script = "# anew\nsay \"on\"\n";
    assert_eq!(words(&prose_of_script(script)), "anew say \"on\"");
    let hits = pattern(["go on".to_owned()].iter());
    assert!(hits.is_match("Go\n  on") && !hits.is_match("ergo on"));
}
