//! AppArmor and SELinux: whether QEMU is kept from files that kubby gives it.
//!
//! libvirt lets a confined QEMU open the files in a machine's definition. Saved memory is not among
//! them: QEMU gets it by arguments and through its monitor.

use std::path::Path;

use crate::doctor::context::{DoctorContext, Link};
use crate::doctor::finding::{Finding, or};

/// The file in which an administrator extends the AppArmor rules of every QEMU of libvirt's.
const LOCAL_RULES: &str = "/etc/apparmor.d/local/abstractions/libvirt-qemu";

pub(in crate::doctor) fn apparmor(s: &DoctorContext<'_>) -> Vec<Finding> {
    let enabled = says("/sys/module/apparmor/parameters/enabled", "Y");
    let rules = std::fs::read_to_string(LOCAL_RULES).unwrap_or_default();
    judge_local(s, |uri, link| {
        let confined = enabled && confines(&link.info.security_models, "apparmor");
        judge_apparmor(confined, &rules, &s.env.store.pool_target(uri))
    })
}

pub(in crate::doctor) fn selinux(s: &DoctorContext<'_>) -> Vec<Finding> {
    let enforcing = says("/sys/fs/selinux/enforce", "1");
    judge_local(s, |_, link| {
        judge_selinux(enforcing && confines(&link.info.security_models, "selinux"))
    })
}

fn judge_local(s: &DoctorContext<'_>, judge: impl Fn(&str, &Link) -> Finding) -> Vec<Finding> {
    let found = s.local_links().map(|(uri, link)| judge(uri, link));
    or(found, Finding::skipped("libvirt does not answer here"))
}

fn says(file: &str, word: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.trim() == word)
}

fn confines(models: &[String], model: &str) -> bool {
    models.iter().any(|m| m == model)
}

fn judge_apparmor(confined: bool, rules: &str, pool: &Path) -> Finding {
    if !confined {
        return Finding::ok("AppArmor does not confine QEMU");
    }
    let pool = pool.display().to_string();
    let mut rules = rules.lines().map(str::trim);
    if rules.any(|rule| !rule.starts_with('#') && rule.contains(&pool)) {
        return Finding::ok(format!("AppArmor lets QEMU use {pool}"));
    }
    Finding::warning(
        format!(
            "AppArmor confines QEMU to the files of a machine's definition; saved memory in {pool} \
             is not among them, so warm starts, suspending and snapshots can be denied"
        ),
        format!("echo '\"{pool}/**\" rwk,' | sudo tee -a {LOCAL_RULES}, then kubby stop and start"),
    )
}

fn judge_selinux(confined: bool) -> Finding {
    if !confined {
        return Finding::ok("SELinux does not confine QEMU");
    }
    Finding::warning(
        "SELinux confines QEMU to files that libvirt has labelled; saved memory is not among them, \
         so warm starts, suspending and snapshots can be denied",
        "see whether it was: sudo ausearch -m avc -ts recent -c qemu-system-x86; kubby start \
         --no-template does without saved memory",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn apparmor_matters_where_it_confines_and_no_rule_lets_the_pool_through() {
        let pool = Path::new("/var/lib/libvirt/images/kubby");
        let rule = "# a comment\n  \"/var/lib/libvirt/images/kubby/**\" rwk,\n";
        let commented = "# \"/var/lib/libvirt/images/kubby/**\" rwk,\n";
        let table = [
            (false, "", State::Ok, "does not confine"),
            (true, rule, State::Ok, "lets QEMU"),
            (true, "", State::Warning, "saved memory"),
            (true, commented, State::Warning, "saved memory"),
        ];
        for (confined, rules, state, words) in table {
            let found = judge_apparmor(confined, rules, pool);
            assert_eq!(found.state, state, "{rules}");
            assert!(found.reason.contains(words), "{}", found.reason);
        }
        let remedy = judge_apparmor(true, "", pool).remedy.unwrap();
        assert!(
            remedy.contains("\"/var/lib/libvirt/images/kubby/**\" rwk,"),
            "{remedy}"
        );
    }

    #[test]
    fn selinux_matters_where_libvirt_uses_it() {
        assert_eq!(judge_selinux(false).state, State::Ok);
        let found = judge_selinux(true);
        assert_eq!(found.state, State::Warning);
        assert!(found.remedy.unwrap().contains("ausearch"));
        let models = ["selinux".to_owned(), "dac".to_owned()];
        assert!(confines(&models, "selinux") && !confines(&models, "apparmor"));
    }
}
