//! kubby: a real Kubernetes on a real virtual machine, through libvirt.
//!
//! The library holds everything but the process entry, so that tests reach it. Lower layers
//! ([`assets`], [`hypervisor`], [`remote`] …) return data and report through
//! [`progress::Progress`]; they never print.

pub mod assets;
pub mod error;
pub mod fsutil;
pub mod hypervisor;
pub mod interrupt;
pub mod kubeconfig;
pub mod pki;
pub mod progress;
pub mod remote;
pub mod tool;
pub mod units;
