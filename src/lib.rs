//! kubby: a real Kubernetes on a real virtual machine, through libvirt.
//!
//! Lower layers (`assets`, `hypervisor`, `remote` …) return data and report through
//! `progress::Progress`; they never print. Everything is private to the crate, so that the compiler
//! finds dead code; [`testing`] has the parts that the tests and the benchmark work with.

#![warn(unreachable_pub)]

mod addon;
mod api;
mod assets;
mod balancer;
mod browser;
mod cli;
mod cluster;
mod cni;
mod commands;
mod dashboard;
mod doctor;
mod egress;
mod endpoint;
mod error;
mod extra_config;
mod fault;
mod foreground;
mod fsutil;
mod host_port;
mod hypervisor;
mod image;
mod interrupt;
mod kubeconfig;
mod name;
mod network;
mod output;
mod parallel;
mod pki;
mod process;
mod profile;
mod progress;
mod provision;
mod remote;
mod role;
mod service;
#[cfg(test)]
mod simulation;
mod store;
#[doc(hidden)]
pub mod testing;
mod tool;
mod trace;
mod ui;
mod units;
mod wait;

/// Runs the program with the arguments of the process.
pub fn main() -> std::process::ExitCode {
    commands::run(cli::Cli::read())
}
