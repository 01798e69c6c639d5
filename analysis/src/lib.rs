//! Answers to the three questions of the experiment, from counts of a sweep.
//!
//! [`plan`] is what a sweep runs, [`dataset`] the files that it leaves, [`counted`] what each run counted, [`series`] how
//! that lies along an axis, and [`verdict`] says how it scales. [`execution`], [`variants`], [`claims`] and [`predictions`]
//! say what follows, [`findings`] holds all of it, [`pressure`] ranks what real models pay, [`report`] writes it for people; [`compare`] sets stacks beside each
//! other. Nothing here needs rights; the same numbers give the same words on every machine.

pub mod answers;
pub mod axis;
pub mod bytes;
pub mod claims;
pub mod compare;
pub mod contact;
pub mod counted;
pub mod dataset;
pub mod execution;
pub mod findings;
pub mod fit;
pub mod interaction;
pub mod intervention;
pub mod page;
pub mod plan;
pub mod plot;
pub mod predictions;
pub mod pressure;
pub mod report;
pub mod resample;
pub mod scatter;
pub mod series;
pub mod series_findings;
pub mod study;
pub mod variants;
pub mod verdict;
