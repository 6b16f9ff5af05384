//! kubby: a real Kubernetes on a real virtual machine, through libvirt.
//!
//! The library holds everything but the process entry, so that tests reach it. Lower layers
//! ([`assets`], [`hypervisor`], [`remote`] …) return data and report through
//! [`progress::Progress`]; they never print.

pub mod addon;
pub mod api;
pub mod assets;
pub mod browser;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod dashboard;
pub mod doctor;
pub mod egress;
pub mod error;
pub mod fault;
pub mod foreground;
pub mod fsutil;
#[doc(hidden)]
pub mod fuzzing;
pub mod hypervisor;
pub mod image;
pub mod interrupt;
pub mod kubeconfig;
pub mod name;
pub mod network;
pub mod output;
pub mod pki;
pub mod process;
pub mod profile;
pub mod progress;
pub mod provision;
pub mod remote;
pub mod role;
pub mod service;
pub mod store;
pub mod tool;
pub mod trace;
pub mod ui;
pub mod units;
pub mod wait;
