//! The commands on a cluster besides `start` and those on saved states, one file each.

pub mod addons;
pub mod certs;
pub mod console;
pub mod delete;
pub mod pause;
pub mod running;
pub mod services;
pub mod status;
pub mod stop;
pub mod support_bundle;
pub mod throwaway;
