//! Keys and certificates of a cluster: made on the host, ECDSA P-256, laid out as kubeadm does.
//!
//! [`ensure()`] makes what is missing and renews what no longer fits or ends soon. The keys of
//! authorities and of service accounts are what a cluster's identity hangs on: they are made once,
//! and a lost one is an error rather than a new one that an existing cluster would not know. An
//! authority's certificate is renewed with the key that it has, so that all it signed stays valid.

mod check;
mod ensure;
mod files;
mod issue;
mod keys;
mod names;
mod renew;
mod survey;
#[cfg(test)]
mod tests;

pub(crate) use check::NOT_YET_VALID;
pub use ensure::ensure;
pub(crate) use ensure::ensure_node;
pub use keys::{Pki, load};
pub use names::{CertName, PkiSpec};
pub(crate) use renew::{forget_operator, renew, renew_node};
pub(crate) use survey::{Found, expiry_fault, survey, survey_node};
