//! Answers to the three questions of the experiment, from counts of a sweep.
//!
//! [`plan`] is what a sweep runs, [`dataset`] the files that it leaves, [`series`] what was counted along an axis, and
//! [`verdict`] says how that scales. Nothing here needs rights; the same numbers give the same words on every machine.

pub mod dataset;
pub mod findings;
pub mod fit;
pub mod plan;
pub mod plot;
pub mod report;
pub mod resample;
pub mod series;
pub mod verdict;
