//! Every command on a cluster but `start`, one file each.

pub(crate) mod certs;
pub(crate) mod delete;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod support_bundle;
pub(crate) mod throwaway;
