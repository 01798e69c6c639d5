//! Names of the phases that the workloads mark.

/// Before anything is made: choosing a runtime and a device.
pub const INIT: &str = "init";
/// A model is read and made ready.
pub const LOAD: &str = "load";
/// The work, before it is measured.
pub const WARMUP: &str = "warmup";
/// The measured iterations of a micro-workload.
pub const WORK: &str = "work";
/// The measured inferences of a real model.
pub const INFER: &str = "infer";
/// Everything is given back.
pub const TEARDOWN: &str = "teardown";

/// The phases in which work is measured: a run has one of them.
pub const MEASURED: [&str; 2] = [WORK, INFER];

/// All phases in the order of a run; the empty one is before any was marked.
pub const ORDER: [&str; 7] = ["", INIT, LOAD, WARMUP, WORK, INFER, TEARDOWN];

/// Whether the work of a run is measured in this phase.
#[must_use]
pub fn is_measured(phase: &str) -> bool {
    MEASURED.contains(&phase)
}
