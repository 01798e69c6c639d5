//! Answers to the three questions of the experiment, from counts of a sweep.
//!
//! [`series`] holds what was counted, [`verdict`] says how it scales. Nothing here reads files or needs rights; the same
//! numbers give the same words on every machine.

pub mod fit;
pub mod resample;
pub mod series;
pub mod verdict;
