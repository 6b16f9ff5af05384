//! Room on the disks: for the clusters' volumes, for images and components, for keys.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::doctor::context::DoctorContext;
use crate::doctor::finding::Finding;
use crate::hypervisor::is_local;
use crate::units::{Mebibytes, human_bytes};

/// A use of disk space, with the room that it needs at least and the room that is comfortable.
struct Place {
    what: &'static str,
    least: Mebibytes,
    enough: Mebibytes,
}

/// The images take 1.5 GiB, a node in use 2 GiB more, a template as much again.
const POOL: Place = Place {
    what: "the clusters' volumes",
    least: Mebibytes(2 * 1024),
    enough: Mebibytes(8 * 1024),
};
/// A complete cache needs no further room; filling it takes 4 GiB.
const CACHE: Place = Place {
    what: "images and components",
    least: Mebibytes(0),
    enough: Mebibytes(4 * 1024),
};
/// Keys, certificates and profiles.
const HOME: Place = Place {
    what: "profiles and keys",
    least: Mebibytes(4),
    enough: Mebibytes(64),
};

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let pools = s.connections.iter().filter(|c| is_local(&c.uri));
    let mut places: Vec<_> = pools
        .map(|c| (s.env.store.pool_target(&c.uri), POOL))
        .collect();
    places.push((s.env.store.home().to_owned(), HOME));
    places.push((s.env.store.cache().to_owned(), CACHE));
    let mut found: Vec<Finding> = Vec::new();
    let mut full = Vec::new();
    for (path, place) in places {
        let Some((device, free)) = room(&path) else {
            continue;
        };
        let finding = judge(&place, &path, free);
        // One full disk is one problem, whatever is on it.
        if finding.remedy.is_none() {
            found.push(finding);
        } else if !full.contains(&device) {
            full.push(device);
            found.push(finding);
        }
    }
    found
}

/// Returns the file system's number, and the bytes that this user can still write there.
fn room(path: &Path) -> Option<(u64, u64)> {
    let there = path.ancestors().find(|p| p.exists())?;
    let device = std::fs::metadata(there).ok()?.dev();
    let stat = rustix::fs::statvfs(there).ok()?;
    Some((device, stat.f_bavail.saturating_mul(stat.f_frsize)))
}

fn judge(place: &Place, path: &Path, free: u64) -> Finding {
    let (room, what) = (human_bytes(free), place.what);
    let reason = format!("{room} free for {what}, in {}", path.display());
    let remedy = "make room: kubby template prune removes templates that no start can use, kubby \
                  image remove and kubby delete what you do not need; df -h shows the disks";
    if free < place.least.bytes() {
        Finding::failure(format!("only {reason}; {} are needed", place.least), remedy)
    } else if free < place.enough.bytes() {
        let enough = place.enough;
        Finding::warning(format!("only {reason}; {enough} are comfortable"), remedy)
    } else {
        Finding::ok(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn room_is_judged_by_what_it_is_for() {
        let table = [
            (POOL, 1 << 30, State::Failure),
            (POOL, 3 << 30, State::Warning),
            (POOL, 9 << 30, State::Ok),
            (CACHE, 0, State::Warning),
            (CACHE, 5 << 30, State::Ok),
            (HOME, 1 << 20, State::Failure),
            (HOME, 32 << 20, State::Warning),
            (HOME, 1 << 30, State::Ok),
        ];
        for (place, free, state) in table {
            let found = judge(&place, Path::new("/here"), free);
            assert_eq!(found.state, state, "{} {free}", place.what);
            assert!(found.reason.contains("/here"));
            assert_eq!(found.remedy.is_some(), state != State::Ok);
        }
    }
}
