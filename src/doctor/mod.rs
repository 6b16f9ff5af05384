//! `kubby doctor`: what keeps clusters from running here, why, and what to do about it.
//!
//! Each check is a file that gathers its facts and judges them by a pure function, which tables
//! test. Looking changes nothing. A repair is data in a [`Finding`]; [`treat`] carries those out
//! that are safe, each under the locks that other kubby processes take, and looks again.

mod checks;
mod finding;
mod leftovers;
mod repair;
mod surroundings;

pub use finding::{Finding, State};
pub use repair::Repaired;

use crate::error::Result;
use crate::interrupt;
use crate::progress::Progress;
use crate::store::Store;
use finding::worst;
use surroundings::Surroundings;

/// A look at one thing. Several findings where several clusters have a trouble of their own.
type Check = fn(&Surroundings<'_>) -> Vec<Finding>;

/// All checks, in the order in which they are shown: what others depend on comes first.
const CHECKS: [Check; 26] = [
    checks::libvirt::look,
    checks::qemu::look,
    checks::virtualisation::look,
    checks::confinement::apparmor,
    checks::confinement::selinux,
    checks::permissions::look,
    checks::secrets::look,
    checks::pool::look,
    checks::disk::look,
    checks::memory::look,
    checks::clock::look,
    checks::firewall::look,
    checks::proxies::look,
    checks::registries::look,
    checks::ports::look,
    checks::clusters::look,
    checks::certificates::look,
    checks::kubeconfig::look,
    checks::templates::look,
    leftovers::folders::look,
    leftovers::files::look,
    leftovers::profiles::look,
    leftovers::domains::look,
    leftovers::contexts::look,
    leftovers::channels::look,
    leftovers::volumes::look,
];

/// A repair can lay open the next one: volumes go after their domain, the pool after its volumes.
const ROUNDS: usize = 4;

/// Looks at everything and changes nothing.
///
/// # Errors
/// [`crate::error::Kind::Internal`] when the profiles cannot be listed,
/// [`crate::error::Kind::Interrupted`] on Ctrl-C. What is not as it should be is no error but a
/// [`Finding`].
pub fn examine(store: &Store) -> Result<Vec<Finding>> {
    let surroundings = Surroundings::gather(store)?;
    let mut findings = Vec::new();
    for check in CHECKS {
        interrupt::check()?;
        findings.extend(check(&surroundings));
    }
    // The pool goes last, and only when nothing else is left to say of it.
    findings.extend(leftovers::pools::look(&surroundings));
    Ok(findings)
}

/// Carries out the repairs that findings offer, and looks again until none is offered any more or
/// none succeeds. Returns what was done, or tried, and what there is to say now.
///
/// # Errors
/// As [`examine`]. A repair that fails is no error but told in [`Repaired`].
pub fn treat(store: &Store, progress: &dyn Progress) -> Result<(Vec<Repaired>, Vec<Finding>)> {
    let mut all: Vec<Repaired> = Vec::new();
    let mut findings = examine(store)?;
    for _ in 0..ROUNDS {
        let offered: Vec<&Finding> = findings.iter().filter(|f| f.fixable).collect();
        let mut done = false;
        for finding in offered {
            interrupt::check()?;
            let Some(repaired) = repair::carry_out(finding, store, progress) else {
                continue;
            };
            done |= repaired.done;
            // What failed in one round fails in the next for the same reason.
            if repaired.done || !all.contains(&repaired) {
                all.push(repaired);
            }
        }
        if !done {
            break;
        }
        findings = examine(store)?;
    }
    // The locks that repairs took are files, too.
    store.remove_if_empty()?;
    Ok((all, findings))
}

/// Whether nothing keeps clusters from running: warnings do not.
pub fn is_healthy(findings: &[Finding]) -> bool {
    worst(findings) != State::Failure
}
