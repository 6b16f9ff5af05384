//! One virtual machine on one host: a libvirt domain with its volumes, keys and ports. Knows no
//! Kubernetes.

pub(crate) mod preflight;
pub(crate) mod resources;
pub(crate) mod watch;
