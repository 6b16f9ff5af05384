//! Nothing but one's own: commands in homes, pools and domains of every foreign, damaged and half-made
//! state. After each command all files, domains, pools and kubeconfig entries of others are as before.
//!
//! `KUBBY_E2E_SITUATION=Pool` chooses the situations with these words in their names, and
//! `KUBBY_E2E_SHOW=1` prints what each command says. No machine boots: two stay in their firmware.

mod actor;
mod cells;
pub mod commands;
mod damage;
mod home;
mod maker;
mod seen;
mod situations;
mod table;
