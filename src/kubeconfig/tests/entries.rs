//! The owners of the entries that are changed, and what stays of the entries.

use std::path::PathBuf;

use super::*;
use crate::error::Kind;

#[test]
fn an_entry_of_kubby_s_is_brought_up_to_date_and_keeps_what_the_user_added() {
    let old = merged(
        "clusters:\n# mine\n- name: a\ncontexts:\n- name: z # z\n",
        true,
    )
    .replace(
        "    cluster: kubby\n",
        "    cluster: kubby\n    namespace: dev\n",
    )
    .replace(
        "    server: https://127",
        "    insecure-skip-tls-verify: true\n    server: https://999",
    );
    let state = inspect(Some(&old), &entry()).unwrap();
    assert!(
        matches!(state.state, State::Misconfigured { .. }),
        "{state:?}"
    );
    let new = merged(&old, false);
    assert_eq!(
        inspect(Some(&new), &entry()).unwrap(),
        Status {
            state: State::Configured,
            current: true
        }
    );
    assert!(
        new.contains("namespace: dev") && new.contains("- name: z # z\n"),
        "{new}"
    );
    assert!(!new.contains("insecure"), "{new}");
    assert_eq!(
        merged(&new, true),
        new,
        "nothing to change, no byte changes"
    );
    // A name twice is what kubectl refuses, so the second one goes.
    let twice = new.replacen("users:\n", &format!("users:\n{}", ours(List::Users, 0)), 1);
    assert_eq!(merged(&twice, true), new);
    assert_eq!(removed(&twice), removed(&new));
}

#[test]
fn entries_of_others_are_never_touched() {
    for (text, what) in [
        ("clusters: [{name: kubby, cluster: {server: x}}]", "cluster"),
        ("users:\n- name: 'kubby'\n", "user"),
        ("contexts:\n- {\"name\": \"kubby\"}\n", "context"),
        (
            "x: &n {name: kubby}\nusers:\n- {<<: *n, user: {}}\n",
            "user",
        ),
    ] {
        let error = merge(Some(text), &entry(), true).unwrap_err();
        assert_eq!(error.kind(), Kind::Kubeconfig);
        assert!(
            error.message().contains(&format!("{what} `kubby`")),
            "{error}"
        );
        assert!(error.hints().iter().any(|h| h.contains("--profile")));
        assert!(
            error
                .hints()
                .iter()
                .any(|h| h.contains(&format!("delete-{what} kubby")))
        );
        assert!(check_foreign(Some(text), "kubby", &entry().owner).is_err());
        assert!(check_foreign(Some(text), "other", &entry().owner).is_ok());
        assert!(remove(text, "kubby", &entry().owner).unwrap().is_none());
    }
    let elsewhere = Owner {
        home: "/other".into(),
        ..entry().owner
    };
    let theirs = merged("kind: Config\n", true);
    assert!(remove(&theirs, "kubby", &elsewhere).unwrap().is_none());
    let error = check_foreign(Some(&theirs), "kubby", &elsewhere).unwrap_err();
    assert!(error.message().contains("/home/u/.kubby"), "{error}");
    assert!(check_foreign(None, "kubby", &elsewhere).is_ok());
}

#[test]
fn a_home_is_one_however_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (home, link) = (dir.path().join("home"), dir.path().join("link"));
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::symlink("home", &link).unwrap();
    let of = |home: &std::path::Path| Entry {
        owner: Owner {
            home: home.into(),
            ..entry().owner
        },
        ..entry()
    };
    let text = merge(Some("kind: Config\n"), &of(&home), true).unwrap();
    let doubled = PathBuf::from(format!("{}//home/", dir.path().display()));
    for other in [&link, &doubled, &home.join("")] {
        let entry = of(other);
        check_foreign(Some(&text), "kubby", &entry.owner).unwrap();
        let status = inspect(Some(&text), &entry).unwrap();
        assert_eq!(status.state, State::Configured, "{other:?}");
        assert_eq!(merge(Some(&text), &entry, true).unwrap(), text);
        let removed = remove(&text, "kubby", &entry.owner).unwrap();
        assert!(removed.is_some_and(|text| is_skeleton(&text)), "{other:?}");
    }
    let elsewhere = of(dir.path());
    assert!(check_foreign(Some(&text), "kubby", &elsewhere.owner).is_err());
}

#[test]
fn only_the_remaining_part_of_an_entry_goes_and_a_foreign_current_context_stays() {
    let mut text = merged("kind: Config\n", true);
    text = text.replace(&ours(List::Contexts, 0), "- name: kubby\n");
    let removed = removed(&text);
    assert_eq!(
        removed,
        "kind: Config\nclusters: []\nusers: []\ncontexts:\n- name: kubby\ncurrent-context: kubby\n"
    );
}

#[test]
fn a_file_with_anything_in_it_is_not_a_skeleton() {
    let entry = entry();
    let removed = remove(&render(&entry), &entry.name, &entry.owner)
        .unwrap()
        .unwrap();
    assert!(is_skeleton(&removed), "{removed}");
    assert!(is_skeleton("\n"));
    for text in [
        render(&entry),
        format!("# x\n{removed}"),
        format!("{removed}preferences: {{}}\n"),
    ] {
        assert!(!is_skeleton(&text), "{text}");
    }
}

#[test]
fn strange_names_survive() {
    for name in [
        "no",
        "7",
        "a: b",
        "é # x",
        "\"q'\\",
        "a\u{2028}b",
        "tab\t",
        "-",
    ] {
        let entry = Entry {
            name: name.into(),
            ..entry()
        };
        for text in ["kind: Config\n", "{\"kind\": \"Config\"}"] {
            let merged = merge(Some(text), &entry, true).unwrap();
            let status = inspect(Some(&merged), &entry).unwrap();
            assert_eq!(
                status,
                Status {
                    state: State::Configured,
                    current: true
                },
                "{merged}"
            );
            assert!(remove(&merged, name, &entry.owner).unwrap().is_some());
        }
    }
}

#[test]
fn a_debug_print_holds_no_key() {
    assert!(!format!("{:?}", entry()).contains("KEY"));
}

#[test]
fn marked_entries_are_listed_with_whose_they_are() {
    let foreign = "apiVersion: v1\nkind: Config\nusers:\n- name: me\n  user: {token: abc}\n";
    assert_eq!(owned(foreign).unwrap(), []);
    assert_eq!(owned("").unwrap(), []);
    assert!(owned("clusters: {").is_err());
    let mut other = entry();
    other.name = "kubby-dev".into();
    other.owner.profile = "dev".into();
    let both = merge(Some(&merged(foreign, true)), &other, false).unwrap();
    let expected = [entry(), other].map(|e| (e.name, e.owner));
    assert_eq!(owned(&both).unwrap(), expected);
    // What is left of an entry is found as well.
    let rest = both.replace("\nclusters:", "\nothers:");
    assert_eq!(owned(&rest).unwrap(), expected);
}
