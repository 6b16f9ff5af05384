//! The Kubernetes components: one read-only volume per version.
