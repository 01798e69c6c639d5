//! What a run is, independent of how it was collected.

pub mod histogram;
pub mod roles;
