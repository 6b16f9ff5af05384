//! `kubby doctor`: finds what keeps clusters from running, with the reason and the remedy.
//!
//! Each check is a file that gathers its facts and judges them by a pure function under table
//! tests. A diagnosis changes nothing. A repair is data in a [`Finding`]; [`repair()`] applies the
//! safe ones, each under the locks that other kubby processes take, and diagnoses again.

mod checks;
mod context;
mod files;
mod finding;
mod leftovers;
mod owned;
mod repair;

pub(crate) use finding::{Finding, State};

use serde::Serialize;

use crate::cluster::env::Env;
use crate::error::Result;
use crate::interrupt;
use context::DoctorContext;
use finding::{explain, worst};

/// A check's name, which is the same in every release, and its function. It returns several
/// findings where several clusters have problems of their own.
type Check = (&'static str, fn(&DoctorContext<'_>) -> Vec<Finding>);

/// All checks, in the order in which they are shown: what others depend on comes first. The pool is
/// last, since it is removed only when it is empty.
const CHECKS: [Check; 29] = [
    ("libvirt", checks::libvirt::look),
    ("qemu", checks::qemu::look),
    ("virtualisation", checks::virtualisation::look),
    ("apparmor", checks::confinement::apparmor),
    ("selinux", checks::confinement::selinux),
    ("permissions", checks::permissions::look),
    ("secrets", checks::secrets::look),
    ("pool", checks::pool::look),
    ("disk", checks::disk::look),
    ("memory", checks::memory::look),
    ("clock", checks::clock::look),
    ("firewall", checks::firewall::look),
    ("proxies", checks::proxies::look),
    ("registries", checks::registries::look),
    ("ports", checks::ports::look),
    ("clusters", checks::clusters::look),
    ("endpoints", checks::endpoints::look),
    ("policies", checks::policies::look),
    ("certificates", checks::certificates::look),
    ("kubeconfig", checks::kubeconfig::look),
    ("templates", checks::templates::look),
    ("leftover-folders", leftovers::folders::look),
    ("leftover-files", leftovers::files::look),
    ("leftover-profiles", leftovers::profiles::look),
    ("leftover-domains", leftovers::domains::look),
    ("leftover-contexts", leftovers::contexts::look),
    ("leftover-channels", leftovers::channels::look),
    ("leftover-volumes", leftovers::volumes::look),
    ("leftover-pool", leftovers::pools::look),
];

/// The most rounds of repairs: one can make the next one possible, as volumes can be removed
/// after their domain, and the pool after its volumes.
const ROUNDS: usize = 4;

/// The outcome of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Repaired {
    /// The check that offered it.
    pub name: &'static str,
    /// Whether it succeeded.
    pub done: bool,
    /// The change that was made, or the reason why it was not.
    pub what: String,
}

/// Runs all checks and changes nothing.
///
/// # Errors
/// [`crate::error::Kind::Internal`] when the profiles cannot be listed,
/// [`crate::error::Kind::Interrupted`] on Ctrl-C. A problem is not an error but a [`Finding`].
pub(crate) fn diagnose(env: &Env<'_>) -> Result<Vec<Finding>> {
    diagnose_by(env, &CHECKS)
}

fn diagnose_by(env: &Env<'_>, checks: &[Check]) -> Result<Vec<Finding>> {
    let context = DoctorContext::gather(env)?;
    let mut findings = Vec::new();
    for (name, check) in checks.iter().copied() {
        interrupt::check()?;
        let found = check(&context).into_iter();
        findings.extend(found.map(|finding| Finding { name, ..finding }));
    }
    Ok(findings)
}

/// Applies the repairs that findings offer, and diagnoses again until none is offered any more or
/// none succeeds. Returns the repairs that were tried and the last findings.
///
/// # Errors
/// As [`diagnose`]. A repair that fails is not an error but reported in [`Repaired`].
pub(crate) fn repair(env: &Env<'_>) -> Result<(Vec<Repaired>, Vec<Finding>)> {
    repair_by(env, &CHECKS)
}

/// Does what [`repair`] does by the checks that look at nothing but the home and its libvirt, for tests.
#[cfg(test)]
pub(crate) fn repair_home(env: &Env<'_>) -> Result<(Vec<Repaired>, Vec<Finding>)> {
    let of_home = |check: &Check| {
        let names = [
            "pool",
            "ports",
            "clusters",
            "certificates",
            "kubeconfig",
            "templates",
        ];
        names.contains(&check.0) || check.0.starts_with("leftover")
    };
    let checks: Vec<Check> = CHECKS.into_iter().filter(of_home).collect();
    repair_by(env, &checks)
}

fn repair_by(env: &Env<'_>, checks: &[Check]) -> Result<(Vec<Repaired>, Vec<Finding>)> {
    let mut all: Vec<Repaired> = Vec::new();
    let mut findings = diagnose_by(env, checks)?;
    for _ in 0..ROUNDS {
        let mut done = false;
        for finding in &findings {
            let Some(repair) = &finding.repair else {
                continue;
            };
            interrupt::check()?;
            let name = finding.name;
            let step = env.progress.step(&format!("Repair: {name}"));
            let result = repair.apply(env);
            let succeeded = result.is_ok();
            let what = result.unwrap_or_else(|e| explain(&e));
            if succeeded {
                step.done(&what);
            }
            done |= succeeded;
            let repaired = Repaired {
                name,
                done: succeeded,
                what,
            };
            // A repair that failed in one round fails in the next one for the same reason.
            if succeeded || !all.contains(&repaired) {
                all.push(repaired);
            }
        }
        if !done {
            break;
        }
        findings = diagnose_by(env, checks)?;
    }
    // The locks that repairs took are files, too.
    env.store.remove_if_empty()?;
    Ok((all, findings))
}

/// Returns whether nothing keeps clusters from running: warnings do not.
pub(crate) fn is_healthy(findings: &[Finding]) -> bool {
    worst(findings) != State::Failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_documented_and_every_documented_check_exists() {
        let page = include_str!("../../docs/doctor.md");
        let (_, table) = page.split_once("\n## Checks\n").unwrap();
        let rows = table.lines().take_while(|line| !line.starts_with("## "));
        let documented = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next());
        assert!(documented.eq(CHECKS.iter().map(|(name, _)| *name)));
    }
}
