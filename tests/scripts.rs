//! The scripts of `scripts/lib` that judge the run of the tests.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `scripts/lib/threat-model` with a document and the output of tests.
fn threat_model(document: &str, log: &str) -> Output {
    let dir = tempfile::tempdir().expect("a folder");
    let (model, output) = (dir.path().join("model.md"), dir.path().join("log"));
    std::fs::write(&model, document).expect("the document");
    std::fs::write(&output, log).expect("the log");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lib/threat-model");
    Command::new(script)
        .args([model, output])
        .output()
        .expect("the script runs")
}

const LOG: &str = "\
     Running unittests src/lib.rs (target/debug/deps/kubby-0123)
test store::tests::paths_are_private ... ok
test pki::tests::keys_are_private ... FAILED
     Running tests/cli.rs (target/debug/deps/cli-0123)
test bad_input ... ok
     Running tests/e2e/main.rs (target/debug/deps/e2e-0123)
test [trust] trust::host::nothing_listens ...   trust::host::nothing_listens: 1.2 s
ok
test [trust] trust::host::other_users ... ignored, needs root
";

#[test]
fn a_line_of_the_threat_model_needs_a_test_that_passed() {
    for (tests, passes, says) in [
        ("`src/store.rs::paths_are_private`", true, "1 of 1 tests"),
        ("`tests/cli.rs::bad_input`", true, "1 of 1 tests"),
        ("`tests/e2e/trust/host.rs::nothing_listens`", true, "1 of 1"),
        (
            "`tests/cli.rs::bad_input` `tests/e2e/trust/host.rs::other_users`",
            true,
            "tests/e2e/trust/host.rs::other_users: skipped",
        ),
        (
            "`tests/e2e/trust/host.rs::other_users`",
            false,
            "model.md:3: none of its tests passed",
        ),
        ("`src/pki/tests/mod.rs::keys_are_private`", false, "FAILED"),
        // A test of the same name in another file or program is another test.
        (
            "`src/saved/mod.rs::paths_are_private`",
            false,
            "did not run",
        ),
        ("`tests/certs.rs::bad_input`", false, "did not run"),
        (
            "`tests/e2e/looking.rs::nothing_listens`",
            false,
            "did not run",
        ),
    ] {
        let document = format!("| they try | tests |\n| --- | --- |\n| a | {tests} |\n");
        let output = threat_model(&document, LOG);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), passes, "{tests}: {text}");
        assert!(text.contains(says), "{tests}: {text}");
    }
    assert!(!threat_model("no table\n", LOG).status.success());
}
