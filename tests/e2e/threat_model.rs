//! The tests of this program that `docs/threat-model.md` names.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::Trial;

use crate::group::Group;

/// Returns their names as [`crate::group::Test::name`] has them.
pub fn tests() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/threat-model.md");
    let text = std::fs::read_to_string(file).expect("the threat model");
    let words = text.split('`');
    let paths = words.filter_map(|word| word.strip_prefix("tests/e2e/"));
    paths
        .filter_map(|path| path.split_once(".rs::"))
        .map(|(file, test)| {
            let module = file.strip_suffix("/mod").unwrap_or(file);
            format!("{}::{test}", module.replace('/', "::"))
        })
        .collect()
}

/// Returns the trial, without virtual machines, that all of them are in groups, and in every run.
pub fn are_listed(groups: &'static [Group]) -> Trial {
    Trial::test("the_threat_models_tests_are_listed", move || {
        let of_groups = groups.iter().flat_map(|group| group.tests);
        let listed = of_groups.copied().flatten().filter(|test| !test.is_long());
        let listed: BTreeSet<&str> = listed.map(|test| test.name()).collect();
        let names = tests();
        assert!(names.len() > 10, "{names:?}");
        let missing: Vec<_> = names
            .iter()
            .filter(|n| !listed.contains(n.as_str()))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        Ok(())
    })
}
