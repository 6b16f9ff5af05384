//! Users, pods and programs that are kept out: the lines of docs/threat-model.md that need a running cluster.

pub mod host;
pub mod network;
pub mod secrets;
