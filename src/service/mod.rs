//! Forwards from the host to Services: ports of the host's loopback that lead to ports of the node.

mod forward;
mod model;
mod probe;
mod ready;
mod status;

pub(crate) use forward::{Forwards, Reconciled};
pub(crate) use model::{Service, ServicePort, all, find, pick_ports};
pub(crate) use probe::wait_open;
pub(crate) use ready::wait;
pub(crate) use status::{publish, withdraw};
