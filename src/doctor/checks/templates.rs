//! The warm templates can be used.

use crate::cluster::saved::templates::{self, Row};
use crate::doctor::context::DoctorContext;
use crate::doctor::finding::{Finding, explain, or};

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    if s.shared_busy {
        return vec![Finding::skipped("another kubby process is using them")];
    }
    match templates::list(&s.env) {
        Ok(rows) => judge(&rows),
        Err(e) => vec![Finding::skipped(explain(&e))],
    }
}

fn judge(rows: &[Row]) -> Vec<Finding> {
    let found = rows.iter().filter_map(|row| {
        let why = row.problem.as_ref()?;
        Some(Finding::warning(
            format!("no start can use the template {}: {why}", row.key),
            "kubby template prune, and the next kubby start makes a new one",
        ))
    });
    let fine = match rows.len() {
        0 => "there is none; the next kubby start makes one".to_owned(),
        n => format!("{n} can be used"),
    };
    or(found, Finding::ok(fine))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn templates_that_no_start_can_use_are_named() {
        let row = |key: &str, problem: Option<&str>| Row {
            key: key.into(),
            created: None,
            kubernetes_version: String::new(),
            nodes: vec![],
            cpus: 1,
            memory_mib: 1,
            addons: vec![],
            bytes: 0,
            used_by: vec![],
            problem: problem.map(str::to_owned),
        };
        assert_eq!(judge(&[])[0].state, State::Ok);
        assert_eq!(judge(&[row("a", None)])[0].state, State::Ok);
        let found = judge(&[
            row("a", None),
            row("b", Some("QEMU was 9.0.0 and is 10.0.0")),
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].state, State::Warning);
        assert!(
            found[0].reason.contains("template b: QEMU was"),
            "{}",
            found[0].reason
        );
    }
}
