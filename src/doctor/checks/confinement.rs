//! AppArmor and SELinux: whether QEMU is kept from files that kubby gives it.
//!
//! libvirt lets a confined QEMU open the files of a machine's definition. Saved memory is none of
//! them: QEMU is told of it by arguments and through its monitor.

use std::path::Path;

use crate::doctor::finding::Finding;
use crate::doctor::surroundings::Surroundings;

/// Where an administrator adds to what AppArmor lets every QEMU of libvirt's do.
const LOCAL_RULES: &str = "/etc/apparmor.d/local/abstractions/libvirt-qemu";

pub(in crate::doctor) fn apparmor(s: &Surroundings<'_>) -> Vec<Finding> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let enabled = enabled.is_ok_and(|text| text.trim() == "Y");
    let rules = std::fs::read_to_string(LOCAL_RULES).unwrap_or_default();
    let local = s.links().filter(|(_, link)| link.host.is_local());
    let mut found: Vec<Finding> = local
        .map(|(uri, link)| {
            let confined = confines(&link.host.security_models, "apparmor");
            judge_apparmor(enabled && confined, &rules, &s.store.pool_target(uri))
        })
        .collect();
    if found.is_empty() {
        found.push(Finding::skipped("apparmor", "libvirt does not answer here"));
    }
    found
}

pub(in crate::doctor) fn selinux(s: &Surroundings<'_>) -> Vec<Finding> {
    let enforcing = std::fs::read_to_string("/sys/fs/selinux/enforce");
    let enforcing = enforcing.is_ok_and(|text| text.trim() == "1");
    let local = s.links().filter(|(_, link)| link.host.is_local());
    let mut found: Vec<Finding> = local
        .map(|(_, link)| {
            judge_selinux(enforcing && confines(&link.host.security_models, "selinux"))
        })
        .collect();
    if found.is_empty() {
        found.push(Finding::skipped("selinux", "libvirt does not answer here"));
    }
    found
}

fn confines(models: &[String], model: &str) -> bool {
    models.iter().any(|m| m == model)
}

fn judge_apparmor(confined: bool, rules: &str, pool: &Path) -> Finding {
    const NAME: &str = "apparmor";
    if !confined {
        return Finding::ok(NAME, "AppArmor does not confine QEMU");
    }
    let pool = pool.display().to_string();
    let allowed = rules
        .lines()
        .map(str::trim)
        .any(|rule| !rule.starts_with('#') && rule.contains(&pool));
    if allowed {
        return Finding::ok(NAME, format!("AppArmor lets QEMU use {pool}"));
    }
    Finding::warning(
        NAME,
        format!(
            "AppArmor confines QEMU to the files of a machine's definition; saved memory in {pool} \
             is none of them, so warm starts, suspending and snapshots can be denied"
        ),
        format!("echo '\"{pool}/**\" rwk,' | sudo tee -a {LOCAL_RULES}, then kubby stop and start"),
    )
}

fn judge_selinux(confined: bool) -> Finding {
    const NAME: &str = "selinux";
    if !confined {
        return Finding::ok(NAME, "SELinux does not confine QEMU");
    }
    Finding::warning(
        NAME,
        "SELinux confines QEMU to files that libvirt has labelled; saved memory is none of them, so \
         warm starts, suspending and snapshots can be denied",
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
