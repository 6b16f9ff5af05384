//! kubby and what it stands on are ended at every step, and the next command sorts it out.

pub mod crowd;
pub mod disrupted;
pub mod matrix;
pub mod places;
pub mod power;
pub mod world;
