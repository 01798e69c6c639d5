//! The three execution models. `cpu` and `kernel` do the same work on the same bytes.

use std::time::Instant;

use crate::{
    backend::{Backend, BackendError, Description},
    cli::WorkOptions,
    measure::{Latencies, Usage},
};

/// What a run of `bench` came to.
pub(crate) struct Outcome {
    pub(crate) model: &'static str,
    pub(crate) backend: Option<Description>,
    pub(crate) options: WorkOptions,
    pub(crate) latencies: Latencies,
    /// Of the timed work.
    pub(crate) wall_ns: u64,
    /// Of the timed work.
    pub(crate) usage: Usage,
}

/// Why a model could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("no memory for an array of {0} bytes\nhint: choose a smaller `--bytes`")]
    NoMemory(usize),
    #[error("{0} bytes are more words than a kernel can count (2^32 − 1 of 4 bytes)\nhint: choose a smaller `--bytes`")]
    TooManyWords(usize),
    #[error("wrong result: word {index} is {found}, not {expected}")]
    WrongResult { index: usize, found: u32, expected: u32 },
}

/// The array of the increments, filled with 0. Memory is asked for in a way that can fail.
fn zeroed(bytes: usize) -> Result<Vec<u32>, ModelError> {
    let words = bytes / 4;
    let mut array = Vec::new();
    array.try_reserve_exact(words).map_err(|_| ModelError::NoMemory(bytes))?;
    array.resize(words, 0);
    Ok(array)
}

/// Every word must hold as many increments as were issued.
fn check(array: &[u32], issued: u64) -> Result<(), ModelError> {
    let expected = issued as u32;
    match array.iter().position(|&word| word != expected) {
        None => Ok(()),
        Some(index) => Err(ModelError::WrongResult { index, found: array[index], expected }),
    }
}

/// Warms up, then times `iters` units of work. Marks the phases; what comes afterwards is teardown.
fn timed(
    model: &'static str,
    backend: Option<Description>,
    options: &WorkOptions,
    mut unit: impl FnMut() -> Result<(), ModelError>,
) -> Result<Outcome, ModelError> {
    gpuos_phase::switch("warmup");
    for _ in 0..options.warmup {
        unit()?;
    }
    let mut latencies = Latencies::new();
    gpuos_phase::switch("work");
    let (before, start) = (Usage::now(), Instant::now());
    for _ in 0..options.iters {
        latencies.time(&mut unit)?;
    }
    let wall_ns = start.elapsed().as_nanos() as u64;
    let usage = Usage::now().since(before);
    gpuos_phase::iterations(options.iters);
    gpuos_phase::switch("teardown");
    Ok(Outcome { model, backend, options: options.clone(), latencies, wall_ns, usage })
}

/// The increments as a loop on the CPU.
pub(crate) fn cpu(options: &WorkOptions) -> Result<Outcome, ModelError> {
    let mut array = zeroed(options.bytes)?;
    let outcome = timed("cpu", None, options, || {
        for word in &mut array {
            *word = word.wrapping_add(1);
        }
        std::hint::black_box(&mut array);
        Ok(())
    })?;
    check(&array, options.warmup + options.iters)?;
    Ok(outcome)
}

/// Allocations and frees through a runtime.
pub(crate) fn alloc(backend: &mut dyn Backend, options: &WorkOptions) -> Result<Outcome, ModelError> {
    timed("alloc", Some(backend.describe()), options, || Ok(backend.allocate_and_free(options.bytes)?))
}

/// The increments as a kernel, each launch waited for.
pub(crate) fn kernel(backend: &mut dyn Backend, options: &WorkOptions) -> Result<Outcome, ModelError> {
    if options.bytes / 4 > u32::MAX as usize {
        return Err(ModelError::TooManyWords(options.bytes));
    }
    let description = backend.describe();
    backend.create_array(options.bytes)?;
    let outcome = timed("kernel", Some(description), options, || Ok(backend.increment()?))?;
    let mut array = zeroed(options.bytes)?;
    backend.read_array(&mut array)?;
    check(&array, options.warmup + options.iters)?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(bytes: usize, iters: u64, warmup: u64) -> WorkOptions {
        WorkOptions { bytes, iters, warmup, json: false }
    }

    /// A runtime whose kernel forgets one word of one launch.
    struct Forgetful {
        array: Vec<u32>,
        launches: u64,
    }

    impl Backend for Forgetful {
        fn describe(&self) -> Description {
            Description { name: "forgetful", runtime: String::new(), device: String::new() }
        }
        fn allocate_and_free(&mut self, _: usize) -> Result<(), BackendError> {
            Ok(())
        }
        fn create_array(&mut self, bytes: usize) -> Result<(), BackendError> {
            self.array = vec![0; bytes / 4];
            Ok(())
        }
        fn increment(&mut self) -> Result<(), BackendError> {
            self.launches += 1;
            let skipped = if self.launches == 3 { Some(2) } else { None };
            for (index, word) in self.array.iter_mut().enumerate() {
                *word += u32::from(Some(index) != skipped);
            }
            Ok(())
        }
        fn read_array(&mut self, into: &mut [u32]) -> Result<(), BackendError> {
            into.copy_from_slice(&self.array);
            Ok(())
        }
    }

    #[test]
    fn a_wrong_result_is_found() {
        let mut backend = Forgetful { array: vec![], launches: 0 };
        let error = kernel(&mut backend, &options(64, 4, 1)).err().unwrap().to_string();
        assert_eq!(error, "wrong result: word 2 is 4, not 5");
    }

    #[test]
    fn too_much_memory_is_refused_politely() {
        assert!(matches!(cpu(&options(usize::MAX / 2, 1, 0)), Err(ModelError::NoMemory(_))));
    }

    proptest! {
        #[test]
        fn the_cpu_counts_every_increment(bytes in 0_usize..5000, iters in 0_u64..20, warmup in 0_u64..5) {
            let outcome = cpu(&options(bytes, iters, warmup)).unwrap();
            prop_assert_eq!(outcome.latencies.percentiles().is_some(), iters > 0);
        }
    }
}
