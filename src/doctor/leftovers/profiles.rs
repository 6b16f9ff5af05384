//! Profile folders without a profile file: of a start that was killed before it wrote one, or with a
//! file that was lost.

use crate::doctor::checks::pool;
use crate::doctor::context::DoctorContext;
use crate::doctor::finding::{Finding, or};
use crate::doctor::repair::Repair;
use crate::profile::ProfileName;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let without = s.profiles.iter().filter(|seen| {
        let missing = matches!(seen.profile, Ok(None));
        missing && !seen.busy
    });
    let found = without.map(|seen| {
        let folder = seen.dir.root().display().to_string();
        judge(&seen.name, &folder, machine(s, &seen.name))
    });
    or(found, Finding::ok("each profile's folder has its profile"))
}

/// Returns what libvirt has of a profile; `None` where not every connection answers.
fn machine(s: &DoctorContext<'_>, name: &ProfileName) -> Option<Vec<String>> {
    let domain = name.resource_name();
    let mut has = Vec::new();
    for connection in &s.connections {
        let link = connection.link.as_ref().ok()?;
        let libvirt = link.host.libvirt();
        if libvirt.find(&domain).ok()?.is_some() {
            has.push(format!("the domain {domain}"));
        }
        if libvirt.find_pool(&s.env.store.pool_name()).ok()?.is_none() {
            continue;
        }
        // A pool that does not work shows no volumes, and may have some nevertheless.
        if !pool::works(s, &connection.uri, link) {
            return None;
        }
        let volumes = libvirt.list_volumes(&s.env.store.pool_name()).ok()?;
        let disk = format!("{domain}.disk");
        let disks = volumes.into_iter().filter(|v| v.name.starts_with(&disk));
        has.extend(disks.map(|v| format!("the volume {}", v.name)));
    }
    Some(has)
}

fn judge(name: &ProfileName, folder: &str, machine: Option<Vec<String>>) -> Finding {
    let reason = format!("the folder {folder} has no profile.toml");
    let delete = format!("kubby delete{} removes all of it", name.flag());
    match machine {
        Some(has) if has.is_empty() => {
            let profile = name.clone();
            Finding::warning(reason, delete).with(Repair::RemoveProfileFolder { profile })
        }
        // Its keys may be the only ones that open that machine.
        Some(has) => Finding::warning(
            format!("{reason}, but libvirt has {}", has.join(", ")),
            format!("restore profile.toml from a backup, or {delete}"),
        ),
        None => Finding::warning(
            format!("{reason}, and libvirt does not answer whether there is a machine of it"),
            delete,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_can_be_removed_only_when_libvirt_has_nothing_of_it() {
        let name: ProfileName = "dev".parse().unwrap();
        let look = |machine| judge(&name, "/h/profiles/dev", machine);
        assert!(look(Some(vec![])).fixable);
        let kept = look(Some(vec!["the domain kubby-dev".into()]));
        assert!(!kept.fixable && kept.reason.contains("kubby-dev"));
        assert!(kept.remedy.unwrap().contains("kubby delete -p dev"));
        assert!(!look(None).fixable);
    }
}
