//! Profile folders without a profile file: a start that was killed before it wrote one, or a file
//! that somebody has lost.

use crate::doctor::checks::pool;
use crate::doctor::finding::Finding;
use crate::doctor::repair::Repair;
use crate::doctor::surroundings::Surroundings;
use crate::hypervisor::Hypervisor;
use crate::profile::ProfileName;

const NAME: &str = "leftover-profiles";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let without = s.profiles.iter().filter(|seen| {
        let missing = matches!(seen.profile, Ok(None));
        missing && !seen.busy
    });
    let mut found: Vec<Finding> = without
        .map(|seen| {
            judge(
                &seen.name,
                &seen.dir.root().display().to_string(),
                machine(s, &seen.name),
            )
        })
        .collect();
    if found.is_empty() {
        found.push(Finding::ok(NAME, "each profile's folder has its profile"));
    }
    found
}

/// What libvirt has of a profile; nothing where not every connection answers.
fn machine(s: &Surroundings<'_>, name: &ProfileName) -> Option<Vec<String>> {
    let domain = name.resource_name();
    let mut has = Vec::new();
    for connection in &s.connections {
        let link = connection.link.as_ref().ok()?;
        let libvirt = &link.libvirt;
        if libvirt.find(&domain).ok()?.is_some() {
            has.push(format!("the domain {domain}"));
        }
        if libvirt.find_pool(&s.store.pool_name()).ok()?.is_none() {
            continue;
        }
        // A pool that does not work shows no volumes, and may have some all the same.
        if !pool::works(s, &connection.uri, link) {
            return None;
        }
        let volumes = libvirt.list_volumes(&s.store.pool_name()).ok()?;
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
            Finding::warning(NAME, reason, delete).with(Repair::RemoveProfileFolder {
                profile: name.clone(),
            })
        }
        // Its keys may be all that leads into that machine.
        Some(has) => Finding::warning(
            NAME,
            format!("{reason}, but libvirt has {}", has.join(", ")),
            format!("bring profile.toml back from a backup, or {delete}"),
        ),
        None => Finding::warning(
            NAME,
            format!("{reason}, and libvirt does not answer whether there is a machine of it"),
            delete,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_only_when_libvirt_has_nothing_of_it() {
        let name: ProfileName = "dev".parse().unwrap();
        let look = |machine| judge(&name, "/h/profiles/dev", machine);
        assert!(look(Some(vec![])).fixable);
        let kept = look(Some(vec!["the domain kubby-dev".into()]));
        assert!(!kept.fixable && kept.reason.contains("kubby-dev"));
        assert!(kept.remedy.unwrap().contains("kubby delete -p dev"));
        assert!(!look(None).fixable);
    }
}
