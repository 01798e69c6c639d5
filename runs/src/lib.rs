//! Runs: what was traced, the table of counts, and the files that hold both.

pub mod columns;
pub mod diff;
pub mod files;
pub mod frame;
pub mod group;
pub mod histogram;
pub mod jobs;
pub mod losses;
pub mod phases;
pub mod run;
