//! What a run is, independent of how it was collected.

pub mod frame;
pub mod histogram;
pub mod phases;
pub mod roles;
pub mod run;
