//! Memory and disk of clusters in files: saving, loading, and the commands that work on them.

pub(crate) mod fork;
pub(crate) mod garbage;
pub(crate) mod identity;
pub(crate) mod load;
pub(crate) mod restore;
pub(crate) mod save;
pub(crate) mod snapshots;
pub(crate) mod state;
pub(crate) mod suspend;
pub(crate) mod template_file;
pub(crate) mod templates;
