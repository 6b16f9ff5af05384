//! The rows of the table, and what each of them lets a command change.

use crate::ownership::home::domain_name;
use crate::ownership::situations::Case;

/// What a command may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing; taking a lock in its own home, which exists, is no change.
    Nothing,
    /// What is the terminal's own.
    Own,
    /// The same, and the own cluster is gone afterwards.
    Deletes,
}

/// A cell: a command with its exit codes and words.
pub struct Row {
    pub args: &'static str,
    pub codes: &'static [i32],
    pub says: &'static [&'static str],
    pub effect: Effect,
}

pub const fn keeps(
    args: &'static str,
    codes: &'static [i32],
    says: &'static [&'static str],
) -> Row {
    Row {
        args,
        codes,
        says,
        effect: Effect::Nothing,
    }
}

pub const fn own(args: &'static str, codes: &'static [i32], says: &'static [&'static str]) -> Row {
    Row {
        args,
        codes,
        says,
        effect: Effect::Own,
    }
}

pub const fn deletes(args: &'static str, says: &'static [&'static str]) -> Row {
    Row {
        args,
        codes: &[0],
        says,
        effect: Effect::Deletes,
    }
}

pub const fn missing(args: &'static str) -> Row {
    const SAYS: &[&str] = &["there is no cluster named `{name}`", "{home}"];
    keeps(args, &[15], SAYS)
}

/// A home without the cluster: nothing is created, and every command says so.
pub const MISSING: &[Row] = &[
    missing("stop"),
    missing("stop --force"),
    missing("pause"),
    missing("resume"),
    missing("suspend"),
    missing("snapshot save new"),
    missing("snapshot list"),
    missing("snapshot restore good"),
    missing("snapshot delete good"),
    missing("fork {name}-f"),
    missing("addon enable metrics"),
    missing("service web"),
    missing("service remove web"),
    missing("certs renew"),
    missing("logs --console"),
    keeps("status", &[0], &["Nonexistent"]),
    keeps("list", &[0], &["There are no clusters"]),
    keeps("doctor", &[0, 10], &[]),
    keeps("doctor --fix", &[0, 10], &[]),
    keeps("template list", &[0], &["There are no warm templates"]),
    keeps("template prune --all", &[0], &["none to delete"]),
    keeps("template delete 0011", &[2], &["no template `0011`"]),
];

/// The same where libvirt knows of no such cluster either.
pub const MISSING_ALONE: &[Row] = &[
    missing("stop"),
    missing("snapshot save new"),
    missing("service remove web"),
    keeps("status", &[0], &["Nonexistent"]),
    keeps("template prune --all", &[0], &["none to delete"]),
];

/// The same beside a cluster of another name.
pub const MISSING_BESIDE: &[Row] = &[
    missing("stop --force"),
    missing("pause"),
    missing("suspend"),
    missing("snapshot restore good"),
    missing("fork {name}-f"),
    missing("service remove web"),
    missing("certs renew"),
    missing("logs --console"),
    keeps("status", &[0], &["Nonexistent"]),
    keeps("list", &[0], &["{name}-x"]),
    keeps("doctor", &[0, 10], &[]),
    own("doctor --fix", &[0, 10], &[]),
];

impl Effect {
    /// Returns whether a file, domain or pool may change.
    pub fn allows(self, case: &Case<'_>, key: &str) -> bool {
        let own = case.own.has(key);
        match self {
            Effect::Nothing => own && key.contains("/locks/"),
            Effect::Own | Effect::Deletes => own,
        }
    }

    /// Returns whether something of one's own has to be gone after a deletion.
    pub fn has_to_be_gone(self, case: &Case<'_>, key: &str) -> bool {
        let domain = domain_name(&case.profile);
        let of_domain = ["disk-1.qcow2", "seed.tar", "console.log"];
        key == format!("domain {domain}")
            || key.contains(&format!("/profiles/{}", case.profile))
            || of_domain
                .iter()
                .any(|end| key.ends_with(&format!("{domain}.{end}")))
    }
}
