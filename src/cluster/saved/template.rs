//! One warm template: its key, its folder, and whether it is suspect.

use std::path::PathBuf;

use crate::cluster::saved::state::SavedDir;
use crate::error::{Error, Kind, Result};
use crate::fsutil;

/// A template that a start can use or save.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    /// The digest of everything that went into it.
    pub(crate) key: String,
    /// Its folder.
    pub(crate) dir: SavedDir,
}

impl Template {
    /// Returns the file that marks the template as suspect after a slow copy.
    fn suspect(&self) -> PathBuf {
        self.dir.root.join("doubted")
    }

    /// Returns whether the template should be discarded after a failure of its copy: not if the copy was
    /// only too slow for the first time, which a busy host can cause.
    pub(crate) fn should_discard(&self, why: &Error) -> bool {
        let slow = matches!(why.kind(), Kind::NodeUnreachable | Kind::Unhealthy);
        !slow || self.suspect().exists()
    }

    /// Marks the template as suspect after a slow copy.
    pub(crate) fn mark_suspect(&self) -> Result<()> {
        fsutil::write_atomic(&self.suspect(), b"", 0o600)
    }

    /// Clears the mark after a copy that was in time.
    pub(crate) fn clear_suspect(&self) -> Result<()> {
        fsutil::remove_all(&self.suspect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_whose_copy_is_slow_gets_a_second_chance() {
        let tmp = tempfile::tempdir().unwrap();
        let template = Template {
            key: "k".into(),
            dir: SavedDir::at(tmp.path().to_owned()),
        };
        let slow = Error::unreachable("slow");
        assert!(template.should_discard(&Error::hypervisor("cut")));
        assert!(!template.should_discard(&slow));
        template.mark_suspect().unwrap();
        assert!(template.should_discard(&slow));
        template.clear_suspect().unwrap();
        assert!(!template.should_discard(&slow));
    }
}
