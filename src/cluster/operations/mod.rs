//! The commands on a cluster besides `start` and those on saved states, one file each.

pub(crate) mod addons;
pub(crate) mod certs;
pub(crate) mod console;
pub(crate) mod delete;
mod ending;
pub(crate) mod host_ports;
pub(crate) mod links;
mod members;
pub(crate) mod nodes;
pub(crate) mod pause;
pub(crate) mod running;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod support_bundle;
pub(crate) mod throwaway;
