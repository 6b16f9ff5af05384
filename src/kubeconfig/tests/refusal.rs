//! Files that are left alone, with an error that says where to look.

use super::*;
use crate::error::Kind;

#[test]
fn unusable_files_are_refused_with_their_place() {
    for (text, place, what) in [
        ("clusters: [", "line 1", "one YAML document"),
        ("a: 1\n b: 2\n", "line 2", "one YAML document"),
        ("kind:\n\tclusters: []\n", "line 2", "one YAML document"),
        (
            "a: 1\nb: 2\na: 3\n",
            "line 3, column 1",
            "key `a` is not allowed",
        ),
        (
            "x:\n- {ä: 1, b: 2, ä: 3}\n",
            "line 2, column 16",
            "key `ä` is not allowed",
        ),
        (
            "kind: Config\n---\nkind: Config\n",
            "line 3",
            "multiple found",
        ),
        ("- a\n", "line 1, column 1", "must be a mapping"),
        ("text", "line 1, column 1", "must be a mapping"),
        (
            "clusters: {}\n",
            "line 1, column 11",
            "`clusters` must be a list",
        ),
        ("users: a\n", "line 1, column 8", "`users` must be a list"),
        (
            "current-context: []\n",
            "line 1, column 18",
            "must be a string",
        ),
        (
            "apiVersion: v1\nkind: Pod\n",
            "line 2, column 7",
            "not a kubeconfig",
        ),
        ("? [a]\n: 1\n", "line 1", "one YAML document"),
        ("a: *x\n", "line 1", "one YAML document"),
        ("a: &x [*x]\n", "line 1, column 8", "Recursive reference"),
    ] {
        for result in [
            merge(Some(text), &entry(), true).err(),
            remove(text, "kubby", &entry().owner).err(),
            inspect(Some(text), &entry()).err(),
            check_foreign(Some(text), "kubby", &entry().owner).err(),
        ] {
            let error = result.unwrap_or_else(|| panic!("accepted: {text}"));
            assert_eq!(error.kind(), Kind::Kubeconfig);
            assert!(error.message().contains(place), "{text}: {error}");
            let whole = format!("{error} {:?}", error.causes());
            assert!(whole.contains(what), "{text}: {whole}");
        }
    }
}

#[test]
fn what_cannot_be_edited_without_loss_is_refused() {
    // The new item would be in the other list as well, and writing all of it again would lose the comment.
    let text = "clusters: &l # mine\n- name: a\nothers: *l\n";
    let error = merge(Some(text), &entry(), true).unwrap_err();
    assert_eq!(error.kind(), Kind::Kubeconfig);
    assert!(
        error.message().contains("without changing its meaning"),
        "{error}"
    );
    assert!(error.hints()[0].contains("--flatten"));
    let without = text.replace(" # mine", "");
    assert!(merge(Some(&without), &entry(), true).is_ok());
}

#[test]
fn aliases_cannot_grow_without_end() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb += &format!("a{i}: &a{i} [{aliases}]\n");
    }
    let error = merge(Some(&bomb), &entry(), true).unwrap_err();
    assert!(error.message().contains("line 6"), "{error}");
    let deep = format!("a: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    assert!(merge(Some(&deep), &entry(), true).is_err());
}
