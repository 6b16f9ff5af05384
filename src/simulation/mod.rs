//! A host in memory: one libvirt with machines, nodes and their APIs, on which the life cycle's commands
//! run as they are, in milliseconds. Storage pools are folders of small files on a RAM disk, because saved
//! states look at files; all else is a [`world::State`] under one lock.
//!
//! Commands run as [simulated processes](crate::process::simulated), which can be killed at each place of
//! [`fault`](crate::fault).

mod api;
mod commands;
mod disk;
mod faults;
mod guest;
mod host;
mod invariants;
mod keys;
mod node;
mod operator;
mod saving;
mod scenario;
mod sequences;
mod world;
