//! The kernel and the initrd of a node image that came as one disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::manifest;
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::progress::StepSink;
use crate::tool::Tool;

/// Each of the programs that take the kernel out runs for seconds.
const DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Takes the newest kernel and its initrd out of the disk's `/boot`, without mounting it: as a
/// sparse raw copy that debugfs reads.
///
/// # Errors
/// [`Kind::Assets`] when there is no kernel with an initrd, or a program fails or is missing.
pub(super) fn take_kernel(dir: &Path, sink: &Arc<dyn StepSink>) -> Result<()> {
    let raw = dir.join("disk.raw");
    Tool::new("qemu-img", Kind::Assets)
        .args(["convert", "-f", "qcow2", "-O", "raw"])
        .args([&dir.join(manifest::DISK), &raw])
        .deadline(DEADLINE)
        .run(Some(Arc::clone(sink)))?;
    let listing = debugfs(&raw, "ls -p /boot", dir)?;
    let Some(version) = newest_kernel(&listing) else {
        return Err(Error::assets("the image has no kernel with an initrd: no /boot/vmlinuz-VERSION and /boot/initrd.img-VERSION on an ext4 file system without partitions",
        )
        .with_hint("`kubby node-image build --export FILE` writes files that can be given here"));
    };
    for (file, to) in [
        (format!("/boot/vmlinuz-{version}"), manifest::KERNEL),
        (format!("/boot/initrd.img-{version}"), manifest::INITRD),
    ] {
        // By a relative name: debugfs would split the path of the cache at its spaces.
        debugfs(&raw, &format!("dump {file} {to}"), dir)?;
    }
    fsutil::remove_all(&raw)
}

fn debugfs(raw: &Path, request: &str, dir: &Path) -> Result<String> {
    Tool::new("debugfs", Kind::Assets)
        .args(["-R", request])
        .arg(raw)
        .dir(dir)
        .deadline(DEADLINE)
        .run(None)
}

/// Returns the highest version that has both files in a listing of `ls -p`, whose lines are
/// `/inode/mode/uid/gid/name/size/`. Only names that mean nothing else to debugfs count.
fn newest_kernel(listing: &str) -> Option<String> {
    let files: Vec<&str> = listing
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.trim().split('/').collect();
            match fields[..] {
                [_, _, mode, _, _, name, size, ..] if mode.starts_with("10") && size != "0" => {
                    Some(name)
                }
                _ => None,
            }
        })
        .collect();
    files
        .iter()
        .filter_map(|name| name.strip_prefix("vmlinuz-"))
        .filter(|v| {
            !v.is_empty()
                && v.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._+~-".contains(c))
        })
        .filter(|v| files.contains(&format!("initrd.img-{v}").as_str()))
        .max_by_key(|v| version_key(v))
        .map(str::to_owned)
}

/// Orders versions by their numbers: 6.12.9 before 6.12.11.
fn version_key(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().unwrap_or(u64::MAX))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_debugfs_would_misread_do_not_count() {
        let row = |mode: &str, name: &str, size: &str| format!("/13/{mode}/0/0/{name}/{size}/\n");
        for (mode, name, size) in [
            ("100644", "vmlinuz-1 /etc/passwd", "5"),
            ("100644", "vmlinuz-\"1\"", "5"),
            ("120777", "vmlinuz-1", "5"),
            ("100644", "vmlinuz-1", "0"),
            ("100644", "vmlinuz-", "5"),
        ] {
            let initrd = name.replace("vmlinuz", "initrd.img");
            let listing = row(mode, name, size) + &row("100644", &initrd, "5");
            assert_eq!(newest_kernel(&listing), None, "{mode} {name} {size}");
        }
        let listing = row("100644", "vmlinuz-1.0", "5") + &row("100600", "initrd.img-1.0", "5");
        assert_eq!(newest_kernel(&listing).as_deref(), Some("1.0"));
    }

    #[test]
    fn the_newest_kernel_is_the_one_with_the_highest_numbers() {
        let listing: String = ["6.12.9+deb13", "6.12.11+deb13", "6.2.100"]
            .iter()
            .flat_map(|v| [format!("vmlinuz-{v}"), format!("initrd.img-{v}")])
            .map(|name| format!("/13/100644/0/0/{name}/5/\n"))
            .collect();
        assert_eq!(newest_kernel(&listing).as_deref(), Some("6.12.11+deb13"));
    }
}
