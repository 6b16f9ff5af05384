//! Files before and after an edit, byte by byte.

use super::*;

#[test]
fn a_new_file_holds_the_entry_alone() {
    let expected = fill(
        "apiVersion: v1\nkind: Config\nclusters:\n{clusters}users:\n{users}contexts:\n{contexts}\
         current-context: kubby\n",
    );
    assert_eq!(render(&entry()), expected);
    for text in [None, Some(""), Some(" \n\t\r\n"), Some("\u{feff}\n")] {
        assert_eq!(merge(text, &entry(), true).unwrap(), expected);
    }
    let not_current = expected.replace("current-context: kubby", "current-context: \"\"");
    assert_eq!(merge(None, &entry(), false).unwrap(), not_current);
}

/// Files before and after, in block style; the same text must come back by removal, or the third.
const BLOCK: &[(&str, &str, Option<&str>)] = &[
    // kubectl's own form.
    (
        "apiVersion: v1\nclusters:\n- cluster:\n    server: https://a\n  name: a\ncontexts:\n- context:\n    cluster: a\n    user: a\n  name: a\ncurrent-context: a\nkind: Config\npreferences: {}\nusers:\n- name: a\n  user:\n    token: t\n",
        "apiVersion: v1\nclusters:\n- cluster:\n    server: https://a\n  name: a\n{clusters}contexts:\n- context:\n    cluster: a\n    user: a\n  name: a\n{contexts}current-context: a\nkind: Config\npreferences: {}\nusers:\n- name: a\n  user:\n    token: t\n{users}",
        None,
    ),
    // Indented dashes, comments, blank lines, no final newline.
    (
        "---\n# top\nclusters: # list\n  # one\n  - {name: a, cluster: {server: x}} # inline\n  # after\n\nusers:\n  - name: a\n\ncontexts:\n  - name: a\n    context: {cluster: a,\n      user: a} # c",
        "---\n# top\nclusters: # list\n  # one\n  - {name: a, cluster: {server: x}} # inline\n{clusters 2}  # after\n\nusers:\n  - name: a\n{users 2}\ncontexts:\n  - name: a\n    context: {cluster: a,\n      user: a} # c\n{contexts 2 without end}",
        None,
    ),
    // Empty values in every notation; keys that are missing go to the end, before `...`.
    (
        "clusters: [] # none\nusers: null # none\n# about contexts\ncontexts:\n...\n# rest\n",
        "clusters: # none\n{clusters 2}users: # none\n{users 2}# about contexts\ncontexts:\n{contexts 2}...\n# rest\n",
        Some(
            "clusters: [] # none\nusers: [] # none\n# about contexts\ncontexts: []\n...\n# rest\n",
        ),
    ),
    (
        "kind: Config\nusers: ~\n\n# bye\n",
        "kind: Config\nusers:\n{users 2}\n# bye\nclusters:\n{clusters}contexts:\n{contexts}",
        Some("kind: Config\nusers: []\n\n# bye\nclusters: []\ncontexts: []\n"),
    ),
    // The whole mapping indented, a `-` on its own line, a block scalar that ends in what looks
    // like a comment.
    (
        "  clusters:\n  -\n    # odd\n    &x\n    name: a\n    note: |\n      one\n      # two\n\n  # real\n  users:\n    - name: é\n  contexts: []\n",
        "  clusters:\n  -\n    # odd\n    &x\n    name: a\n    note: |\n      one\n      # two\n\n{clusters 2}  # real\n  users:\n    - name: é\n{users 4}  contexts:\n{contexts 4}",
        None,
    ),
];

#[test]
fn block_style_files_change_in_kubby_s_lines_only() {
    for (before, after, back) in BLOCK {
        for ends in ["\n", "\r\n"] {
            let [before, after] = [*before, &fill(after)].map(|t| t.replace('\n', ends));
            let merged = merged(&before, false);
            assert_eq!(merged, after);
            let back = back.map_or(before, |back| back.replace('\n', ends));
            assert_eq!(removed(&merged), back);
        }
    }
}

/// kubby's items on one line, as JSON and in flow style.
const ON_ONE_LINE: [(&str, &str, &str); 3] = [
    (
        "<cluster>",
        r#"{"cluster":{"certificate-authority-data":"Q0E=","server":"https://127.0.0.1:6443","extensions":[{"extension":{"home":"/home/u/.kubby","profile":"kubby"},"name":"kubby.dev/owner"}]},"name":"kubby"}"#,
        "{cluster: {certificate-authority-data: Q0E=, server: https://127.0.0.1:6443, extensions: [{extension: {home: /home/u/.kubby, profile: kubby}, name: kubby.dev/owner}]}, name: kubby}",
    ),
    (
        "<user>",
        r#"{"user":{"client-certificate-data":"Q0VSVA==","client-key-data":"S0VZ","extensions":[{"extension":{"home":"/home/u/.kubby","profile":"kubby"},"name":"kubby.dev/owner"}]},"name":"kubby"}"#,
        "{user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ, extensions: [{extension: {home: /home/u/.kubby, profile: kubby}, name: kubby.dev/owner}]}, name: kubby}",
    ),
    (
        "<context>",
        r#"{"context":{"cluster":"kubby","user":"kubby","extensions":[{"extension":{"home":"/home/u/.kubby","profile":"kubby"},"name":"kubby.dev/owner"}]},"name":"kubby"}"#,
        "{context: {cluster: kubby, user: kubby, extensions: [{extension: {home: /home/u/.kubby, profile: kubby}, name: kubby.dev/owner}]}, name: kubby}",
    ),
];

/// Fills kubby's items in for `<cluster>`, `<user>` and `<context>`.
fn on_one_line(template: &str, json: bool) -> String {
    let mut text = template.to_owned();
    for (name, as_json, flow) in ON_ONE_LINE {
        text = text.replace(name, if json { as_json } else { flow });
    }
    text
}

#[test]
fn flow_style_files_keep_their_form_and_json_stays_json() {
    for (before, after, back) in [
        (
            r#"{"clusters":[{"name":"a"}],"users":[],"contexts":null}"#,
            r#"{"clusters":[{"name":"a"},<cluster>],"users":[<user>],"contexts":[<context>]}"#,
            r#"{"clusters":[{"name":"a"}],"users":[],"contexts":[]}"#,
        ),
        (
            "{clusters: [ {name: a}, # first\n ], users: [\n  # none\n ]}\n",
            "{clusters: [ {name: a}, # first\n <cluster>,], users: [\n  # none\n <user>], contexts: [<context>]}\n",
            "{clusters: [ {name: a}, # first\n ], users: [\n  # none\n ], contexts: []}\n",
        ),
        (
            "clusters: [{name: a}]\nusers: [\n  {name: a}, # a\n  {name: b} # b\n  ]\ncontexts: [{name: kube}]\n",
            "clusters: [{name: a}, <cluster>]\nusers: [\n  {name: a}, # a\n  {name: b} # b\n  , <user>]\ncontexts: [{name: kube}, <context>]\n",
            "clusters: [{name: a}]\nusers: [\n  {name: a}, # a\n  {name: b} # b\n  ]\ncontexts: [{name: kube}]\n",
        ),
    ] {
        let after = on_one_line(after, before.starts_with("{\""));
        assert_eq!(merged(before, false), after);
        assert_eq!(removed(&after), back);
    }
}

#[test]
fn pretty_json_is_indented_like_the_rest() {
    for step in ["  ", "    ", "\t"] {
        let value: serde_json::Value = serde_json::from_str(
            r#"{"kind": "Config", "clusters": [{"name": "a", "cluster": {"server": "x"}}], "users": []}"#,
        )
        .unwrap();
        let pretty = |value: &serde_json::Value| {
            let mut out = Vec::new();
            let format = serde_json::ser::PrettyFormatter::with_indent(step.as_bytes());
            let mut to = serde_json::Serializer::with_formatter(&mut out, format);
            serde::Serialize::serialize(value, &mut to).unwrap();
            String::from_utf8(out).unwrap()
        };
        let merged = merged(&pretty(&value), true);
        let read: serde_json::Value = serde_json::from_str(&merged).expect("JSON stays JSON");
        assert_eq!(merged, pretty(&read), "laid out as a JSON writer would");
        let back: serde_json::Value = serde_json::from_str(&removed(&merged)).unwrap();
        assert_eq!(back["clusters"], value["clusters"]);
        assert_eq!(back["users"], value["users"]);
    }
}

#[test]
fn the_current_context_is_set_in_place() {
    for (before, after) in [
        (
            "current-context: prod # now\nkind: Config\n",
            "current-context: kubby # now\nkind: Config\n",
        ),
        ("'current-context': 'prod'\n", "'current-context': kubby\n"),
        ("current-context: \"\"\n", "current-context: kubby\n"),
        (
            "current-context:\nkind: Config\n",
            "current-context: kubby\nkind: Config\n",
        ),
        ("current-context: ~\n", "current-context: kubby\n"),
        ("current-context:\n  prod\n", "current-context: kubby\n"),
        ("{current-context: prod}", "{current-context: kubby"),
    ] {
        let merged = merged(before, true);
        assert!(merged.starts_with(after), "{before}: {merged}");
        let removed = removed(&merged);
        assert!(
            meaning(&removed).get("current-context").is_none(),
            "{removed}"
        );
    }
    let kept = merged("current-context: prod\n", false);
    assert!(kept.starts_with("current-context: prod\n"));
    assert!(removed(&kept).starts_with("current-context: prod\n"));
}

#[test]
fn files_without_a_mapping_yet_keep_their_comments() {
    for (before, after) in [
        ("# mine\n", "# mine\nN"),
        ("# mine", "# mine\nN"),
        ("---\n", "---\nN"),
        ("--- {}\n# x\n", "--- F\n# x\n"),
        ("{} # x\n...\n", "F # x\n...\n"),
        ("null\n", "N"),
    ] {
        let flow = "{apiVersion: v1, kind: Config, clusters: [<cluster>], users: [<user>], contexts: [<context>], current-context: kubby}";
        let after = after
            .replace('F', &on_one_line(flow, false))
            .replace('N', &render(&entry()));
        assert_eq!(merged(before, true), after, "{before:?}");
    }
}

#[test]
fn unusual_notations_keep_all_data() {
    for before in [
        // An alias for a list, and a list that an alias elsewhere repeats.
        "x: &l\n- name: a\nclusters: *l\n",
        "clusters: &l\n- name: a\nmine: *l\n",
        "? clusters\n: - name: a\n# lost\nkind: Config\n",
        "kind: Config\rclusters:\r- name: a\r",
        "clusters: !!seq # c\n- name: a\nusers: &u # c\n",
        "{clusters, users: [{name: a}]}",
        "current-context: |-\n  prod\n",
        "<<: {preferences: {colors: true}}\n",
        "x: !!binary //8=\ny: 123456789012345678901234567890\nz: [.nan, yes, 0o17, 2001-12-14]\n1: one\n",
        "note: |\n  no newline at the end",
        "clusters: !<tag:yaml.org,2002:seq> [{name: a, x: !foo {y: !!int \"3\"}}]\nx: &a 1\ny: *a\n",
    ] {
        let merged = merged(before, true);
        let mut original = meaning(before);
        let mut back = meaning(&removed(&merged));
        for root in [&mut original, &mut back] {
            root.shift_remove("current-context");
        }
        assert_eq!(back, original, "{before}\n---\n{merged}");
    }
}
