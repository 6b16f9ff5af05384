//! The user's kubeconfig file.
