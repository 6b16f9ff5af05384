//! Makes the erofs image out of a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::StepSink;
use crate::tool::Tool;

/// The options of mkfs.erofs; together with the identifier they make the image reproducible.
///
/// Uncompressed: 330 MB instead of 165 with lz4, but a read costs a third of the processor time
/// (11 against 30 ms for the Kubernetes programs on the host), and inside an emulated machine
/// that is what a start waits for.
pub(super) const OPTIONS: [&str; 4] = ["--quiet", "-T0", "--all-root", "-x-1"];

/// Packs `stage` into the new image `out`; `key` (hex) gives its identifier.
pub(super) fn pack(stage: &Path, out: &Path, key: &str, sink: Arc<dyn StepSink>) -> Result<()> {
    open_up(stage)?;
    let uuid = uuid(key)
        .ok_or_else(|| Error::internal(format!("`{key}` cannot identify a component volume")))?;
    Tool::new("mkfs.erofs", Kind::Assets)
        .args(OPTIONS)
        .args(["-U", &uuid.to_string()])
        .arg(out)
        .arg(stage)
        .deadline(Duration::from_secs(600))
        .run(Some(sink))?;
    Ok(())
}

fn uuid(key: &str) -> Option<uuid::Uuid> {
    let number = u128::from_str_radix(key.get(..32)?, 16).ok()?;
    // Version and variant bits as RFC 9562 wants them for identifiers of one's own making.
    Some(uuid::Builder::from_custom_bytes(number.to_be_bytes()).into_uuid())
}

/// Lets every user of the node read the volume, whatever this host's umask is.
fn open_up(path: &Path) -> Result<()> {
    let fail = || format!("cannot prepare {}", path.display());
    let meta = fs::symlink_metadata(path).context(Kind::Assets, fail)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let program = meta.is_file() && meta.permissions().mode() & 0o100 != 0;
    let mode = if meta.is_dir() || program {
        0o755
    } else {
        0o644
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context(Kind::Assets, fail)?;
    if meta.is_dir() {
        for entry in fs::read_dir(path).context(Kind::Assets, fail)? {
            open_up(&entry.context(Kind::Assets, fail)?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Progress, Silent};

    fn stage(order: [&str; 3]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        for name in order {
            fs::write(dir.path().join("bin").join(name), name.repeat(3000)).unwrap();
        }
        std::os::unix::fs::symlink("b", dir.path().join("bin/link")).unwrap();
        dir
    }

    #[test]
    fn equal_content_gives_equal_images() {
        let key = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let out = tempfile::tempdir().unwrap();
        let images: Vec<Vec<u8>> = [["a", "b", "c"], ["c", "a", "b"]]
            .iter()
            .enumerate()
            .map(|(n, order)| {
                let image = out.path().join(n.to_string());
                let stage = stage(*order);
                fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o700)).unwrap();
                pack(stage.path(), &image, key, Silent.step("").sink()).unwrap();
                fs::read(image).unwrap()
            })
            .collect();
        assert_eq!(images[0][1024..1028], 0xE0F5_E1E2_u32.to_le_bytes());
        assert!(images[0] == images[1], "the images differ");
    }
}
