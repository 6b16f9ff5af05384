//! Forwards from the host to Services: ports of the host's loopback that lead to ports of the node.

mod forward;
mod model;
mod probe;
mod ready;
mod status;

pub use forward::{Forwards, Reconciled};
pub use model::{Service, ServicePort, ServiceType, all, find, pick_ports};
pub use probe::wait_open;
pub use ready::wait;
pub use status::{publish, withdraw};
