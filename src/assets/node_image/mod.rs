//! The node's disk image, with the kernel and the initrd that start it: built on this host from
//! the recipe in `images/node`, or made elsewhere and checked here.
//!
//! An image in the cache never changes: [`NodeImage::key`] names its content, so a copy under that
//! name (a libvirt volume) is the right one.

mod build;
mod export;
mod import;
mod kernel;
pub(crate) mod manifest;
mod prebuilt;
pub(crate) mod qcow2;
mod store;

use std::path::{Path, PathBuf};

use crate::fsutil;

pub use build::build;
pub(crate) use export::export;
pub(crate) use import::{check_key, import, load, staging};
pub(crate) use prebuilt::prebuilt;
pub(crate) use qcow2::check_overlay;

/// The kernel's command line for this image, whatever runs it: the first virtio disk is the root
/// file system, the console is the first serial port. The window size and the terminal type are
/// given because systemd would otherwise ask the console for them and wait for an answer.
pub const KERNEL_ARGUMENTS: &str = "root=/dev/vda rw console=ttyS0 quiet audit=0 TERM=dumb \
     systemd.tty.rows.console=24 systemd.tty.columns.console=80";

/// An image ready for use. The files are read-only for everybody but this module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImage {
    /// Names the content: two images with the same key are the same bytes. Fit for a file name.
    pub key: String,
    /// The root disk, qcow2 without a backing file; nodes run on overlays of it.
    pub disk: PathBuf,
    /// The kernel for direct boot.
    pub kernel: PathBuf,
    /// The initrd that goes with the kernel.
    pub initrd: PathBuf,
    /// The size of the disk as a node sees it, in bytes; an overlay needs at least this size.
    pub virtual_size: u64,
}

impl NodeImage {
    /// Returns the folder of its files, which is its entry in the cache.
    pub fn folder(&self) -> &Path {
        fsutil::folder_of(&self.disk)
    }
}
