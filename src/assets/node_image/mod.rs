//! The node's disk image, kernel and initrd.
