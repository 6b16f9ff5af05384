//! The SSH layer against a real OpenSSH server of this host, each test with its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod commands;
mod connecting;
mod files;
mod helper;
mod hostile;
mod process;
mod server;
mod streaming;
mod terminal;
