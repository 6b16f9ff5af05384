//! Properties that hold for every file, tried on many.

use super::*;
use crate::kubeconfig::generate::{Random, kubeconfig};

/// Foreign items of a list: all without kubby's mark.
fn foreign(root: &Root, list: List) -> Vec<&Value> {
    let items = list.items(root).iter();
    items.filter(|item| list.owner(item).is_none()).collect()
}

#[test]
fn thousands_of_generated_files_survive_merging_and_removing() {
    let mut unchanged = 0;
    let count = 2500;
    for seed in 0..count {
        let mut random = match seed % 5 {
            0 => Random::unique(seed),
            _ => Random::new(seed),
        };
        let before = kubeconfig(&mut random);
        let set_current = seed % 2 == 0;
        let after = merged(&before, set_current);
        let context = || format!("seed {seed}\n{before}\n--- after\n{after}");
        let (old, new) = (meaning(&before), meaning(&after));
        for list in List::ALL {
            assert_eq!(foreign(&old, list), foreign(&new, list), "{}", context());
        }
        let status = inspect(Some(&after), &entry()).unwrap();
        assert_eq!(
            status,
            Status {
                state: State::Configured,
                current: set_current
            },
            "{}",
            context()
        );
        assert_eq!(merged(&after, set_current), after, "{}", context());
        assert_eq!(comments(&before), comments(&after), "{}", context());
        let back = removed(&after);
        let mut original = old.clone();
        original.retain(|key, _| !set_current || key != "current-context");
        assert_eq!(meaning(&back), original, "{}\n--- back\n{back}", context());
        assert_eq!(
            comments(&before),
            comments(&back),
            "{}\n--- back\n{back}",
            context()
        );
        unchanged += u64::from(back == before);
    }
    // Where nothing was empty or missing, the very bytes come back.
    assert!(
        unchanged * 20 > count,
        "only {unchanged} of {count} came back byte by byte"
    );
}
