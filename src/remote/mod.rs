//! Reaching the node over SSH.
