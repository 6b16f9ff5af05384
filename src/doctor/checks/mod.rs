//! One file for each check: its facts, and the judgement of them.

pub(super) mod certificates;
pub(super) mod clock;
pub(super) mod clusters;
pub(super) mod confinement;
pub(super) mod disk;
pub(super) mod endpoints;
pub(super) mod firewall;
pub(super) mod kubeconfig;
pub(super) mod libvirt;
pub(super) mod memory;
pub(super) mod permissions;
pub(super) mod policies;
pub(super) mod pool;
pub(super) mod ports;
pub(super) mod proxies;
pub(super) mod qemu;
pub(super) mod registries;
pub(super) mod rules;
pub(super) mod secrets;
pub(super) mod templates;
pub(super) mod virtualisation;
