//! Downloads that are verified before anything uses them.
