//! The models: what one unit of work is. `cpu` and `kernel` do the same work on the same bytes. This file times them;
//! one file each says what they do.

mod alloc;
mod copy;
pub(crate) mod cpu;
mod kernel;
mod memory;

use std::time::Instant;

pub(crate) use memory::{afford, zeroed};

use crate::{
    backend::{Backend, BackendError, Description, Jobs},
    measure::{Latencies, usage_now},
    workload::{Lifetime, Memory, Model, Via, Wait, Workload},
};
use gpuos_model::{Usage, phase};

/// What a run of `bench` came to.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) workload: Workload,
    pub(crate) backend: Option<Description>,
    /// Of single iterations.
    pub(crate) latencies: Latencies,
    /// Of the timed work, its last wait included.
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
    #[error("{bytes} bytes {batch} times are more than this machine can address\nhint: choose a smaller `--batch`")]
    TooLarge { bytes: usize, batch: u32 },
    #[error("no memory to remember {0} buffers\nhint: choose a smaller `--batch` or `--iters`")]
    TooMany(usize),
    #[error("wrong result: word {index} is {found}, not {expected}")]
    WrongResult { index: usize, found: u32, expected: u32 },
    #[error("{0}")]
    Senseless(&'static str),
}

/// Room for so many things.
pub(crate) fn room<T>(count: usize) -> Result<Vec<T>, ModelError> {
    let mut room = Vec::new();
    room.try_reserve_exact(count).map_err(|_| ModelError::TooMany(count))?;
    Ok(room)
}

/// Runs the model of the workload on a backend, and checks the results where there are any.
pub(crate) fn run<B: Backend>(mut backend: B, workload: &Workload) -> Result<Measured, ModelError> {
    make_sense(workload)?;
    let description = backend.describe();
    let mut measured = match workload.via.parts() {
        Some(parts) => run_on(&mut Jobs::over(backend, workload, parts)?, workload),
        None => run_on(&mut backend, workload),
    }?;
    measured.backend = Some(description);
    Ok(measured)
}

fn run_on<B: Backend>(backend: &mut B, workload: &Workload) -> Result<Measured, ModelError> {
    match workload.model {
        Model::Alloc => alloc::run(backend, workload),
        Model::Copy => copy::run(backend, workload),
        Model::Kernel | Model::Sync | Model::Launch => kernel::run(backend, workload),
        Model::Cpu => cpu::run(workload),
    }
}

/// Options that are possible one by one, but not together.
fn make_sense(workload: &Workload) -> Result<(), ModelError> {
    let senseless = |what| Err(ModelError::Senseless(what));
    if workload.model == Model::Alloc && workload.lifetime == Lifetime::Once {
        return senseless(
            "`alloc --lifetime once` allocates nothing in an iteration\nhint: choose `per-iter` or `pooled`",
        );
    }
    if workload.free_every > 1 && workload.lifetime == Lifetime::Pooled {
        return senseless(
            "a pool of `bench`'s own frees nothing\nhint: leave out `--free-every`, or `--lifetime pooled`",
        );
    }
    if workload.setup.pool_threshold.is_some() && workload.memory != Memory::AsyncPool {
        return senseless("only memory of the runtime's pool has a threshold\nhint: choose `--memory async-pool`");
    }
    let wait = match workload.via {
        Via::Spin => Wait::Spin,
        Via::Block => Wait::Block,
        Via::Native | Via::Pool | Via::Identity | Via::Completion | Via::Arena | Via::All | Via::AllBatch => {
            workload.setup.wait
        }
    };
    if wait != workload.setup.wait {
        return senseless("`--via spin` and `--via block` are ways to wait\nhint: leave out `--wait`");
    }
    let memory = match workload.via {
        Via::Pool => Memory::AsyncPool,
        Via::Arena => Memory::Device,
        Via::Native | Via::Spin | Via::Block | Via::Identity | Via::Completion | Via::All | Via::AllBatch => {
            workload.memory
        }
    };
    if memory != workload.memory {
        return senseless("`--via pool` and `--via arena` are kinds of memory\nhint: leave out `--memory`");
    }
    if workload.via == Via::Completion && workload.model == Model::Alloc {
        return senseless(
            "an allocation is done when its call returns, and is waited for by no job\nhint: choose `--via arena`",
        );
    }
    if workload.via == Via::AllBatch && workload.model == Model::Copy {
        return senseless("copies are recorded in no graph here\nhint: choose `--via all`");
    }
    let takes = matches!(workload.via, Via::Arena | Via::All | Via::AllBatch) && workload.lifetime == Lifetime::PerIter;
    if takes && workload.model != Model::Alloc && workload.sync_every == 0 {
        return senseless(
            "memory of a job is its own until a wait, and here is one at the end alone\nhint: choose `--sync-every`",
        );
    }
    if matches!(workload.via, Via::Pool | Via::Arena) && workload.lifetime != Lifetime::PerIter {
        return senseless(
            "`--via pool` and `--via arena` are for memory of an iteration\nhint: choose `alloc`, or `kernel --lifetime per-iter`",
        );
    }
    if matches!(workload.via, Via::Arena | Via::All | Via::AllBatch)
        && workload.setup.streams > 1
        && workload.lifetime == Lifetime::PerIter
    {
        return senseless(
            "memory of a job belongs to the order of one stream\nhint: choose `--streams 1`, or `--via completion`",
        );
    }
    if workload.via == Via::AllBatch && workload.model == Model::Alloc {
        return senseless("an allocation is no launch, so that a batch of them is no graph\nhint: choose `--via all`");
    }
    if workload.graph && workload.lifetime != Lifetime::Once {
        return senseless("a graph is recorded for one array\nhint: leave out `--graph`, or choose `--lifetime once`");
    }
    if workload.lifetime == Lifetime::Pooled && workload.setup.streams > 1 {
        return senseless("the arrays of a pool belong to no stream\nhint: choose `--streams 1`, or `--lifetime once`");
    }
    if workload.memory == Memory::AsyncPool && workload.setup.streams > 1 {
        return senseless(
            "memory of `async-pool` belongs to the order of one stream\nhint: choose `--streams 1`, or other memory",
        );
    }
    if workload.fused && workload.model == Model::Copy && workload.bytes.checked_mul(workload.batch as usize).is_none()
    {
        return Err(ModelError::TooLarge { bytes: workload.bytes, batch: workload.batch });
    }
    Ok(())
}

/// A unit of work that can be issued again and again.
trait Work {
    /// One iteration; `number` counts from 0 through the warm-up and the timed work.
    fn issue(&mut self, number: u64) -> Result<(), ModelError>;
    /// Waits for what was issued.
    fn wait(&mut self) -> Result<(), ModelError>;
}

/// Warms up, then times `iters` units of work. Marks the phases; what comes afterwards is teardown.
fn timed(workload: &Workload, work: &mut impl Work) -> Result<Measured, ModelError> {
    gpuos_phase::switch(phase::WARMUP);
    let mut pace = Pace { every: workload.sync_every, issued: 0, waiting: 0 };
    for _ in 0..workload.warmup {
        pace.step(work)?;
    }
    pace.finish(work)?;
    let mut latencies = Latencies::new();
    // What is read and marked here makes no system call inside the phase `work`.
    let before = usage_now();
    gpuos_phase::switch(phase::WORK);
    let start = Instant::now();
    for _ in 0..workload.iters {
        latencies.time(|| pace.step(work))?;
    }
    pace.finish(work)?;
    let wall_ns = start.elapsed().as_nanos() as u64;
    gpuos_phase::iterations(workload.iters);
    gpuos_phase::switch(phase::TEARDOWN);
    let usage = usage_now().since(before);
    Ok(Measured { workload: workload.clone(), backend: None, latencies, wall_ns, usage })
}

/// When to wait.
struct Pace {
    every: u64,
    issued: u64,
    /// Iterations since the last wait.
    waiting: u64,
}

impl Pace {
    fn step(&mut self, work: &mut impl Work) -> Result<(), ModelError> {
        work.issue(self.issued)?;
        self.issued += 1;
        self.waiting += 1;
        if self.waiting == self.every { self.finish(work) } else { Ok(()) }
    }

    fn finish(&mut self, work: &mut impl Work) -> Result<(), ModelError> {
        if self.waiting == 0 {
            return Ok(());
        }
        self.waiting = 0;
        work.wait()
    }
}

/// Clears an array, where it is memory of the host only if there is enough of that.
pub(crate) fn clear<B: Backend>(backend: &mut B, array: &mut B::Buffer, bytes: usize) -> Result<(), ModelError> {
    if backend.is_in_host_memory() {
        afford(bytes)?;
    }
    Ok(backend.clear(array)?)
}

/// Every word must be the one that is expected at its place.
fn check(array: &[u32], expected: impl Fn(usize) -> u32) -> Result<(), ModelError> {
    match array.iter().enumerate().find(|(index, word)| **word != expected(*index)) {
        None => Ok(()),
        Some((index, found)) => Err(ModelError::WrongResult { index, found: *found, expected: expected(index) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes what is asked of it.
    #[derive(Default)]
    struct Noted(String);

    impl Work for Noted {
        fn issue(&mut self, number: u64) -> Result<(), ModelError> {
            self.0 += &number.to_string();
            Ok(())
        }
        fn wait(&mut self) -> Result<(), ModelError> {
            self.0.push('w');
            Ok(())
        }
    }

    #[test]
    fn waits_come_after_so_many_iterations_and_at_the_end_if_any_is_left() {
        let order = |sync_every, warmup, iters| {
            let mut noted = Noted::default();
            timed(&Workload { sync_every, ..Workload::new(Model::Kernel, 4, iters, warmup) }, &mut noted).unwrap();
            noted.0
        };
        assert_eq!(order(1, 1, 2), "0w1w2w");
        assert_eq!(order(2, 0, 5), "01w23w4w");
        assert_eq!(order(0, 2, 3), "01w234w");
        assert_eq!(order(0, 0, 0), "");
    }

    #[test]
    fn options_that_make_no_sense_together_are_refused() {
        let refused = |change: fn(&mut Workload)| {
            let mut workload = Workload::new(Model::Kernel, 4096, 1, 0);
            change(&mut workload);
            make_sense(&workload).unwrap_err().to_string()
        };
        assert!(refused(|workload| workload.model = Model::Alloc).contains("allocates nothing"));
        assert!(refused(|workload| workload.setup.pool_threshold = Some(0)).contains("`--memory async-pool`"));
        assert!(
            refused(|workload| {
                workload.free_every = 2;
                workload.lifetime = Lifetime::Pooled;
            })
            .contains("frees nothing")
        );
        assert!(
            refused(|workload| {
                workload.graph = true;
                workload.lifetime = Lifetime::PerIter;
            })
            .contains("one array")
        );
        assert!(
            refused(|workload| {
                workload.memory = Memory::AsyncPool;
                workload.setup.streams = 2;
            })
            .contains("one stream")
        );
        // Arms that would silently be the runtime's own, or take memory without end.
        assert!(refused(|workload| workload.via = Via::Spin).contains("ways to wait"));
        assert!(refused(|workload| workload.via = Via::Arena).contains("memory of an iteration"));
        let of = |model, via, change: fn(&mut Workload)| {
            let mut workload = Workload::new(model, 4096, 1, 0);
            (workload.via, workload.lifetime) = (via, Lifetime::PerIter);
            change(&mut workload);
            make_sense(&workload).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(of(Model::Alloc, Via::Arena, |workload| workload.memory = Memory::Pinned).contains("kinds of memory"));
        assert!(of(Model::Alloc, Via::Completion, |_| {}).contains("waited for by no job"));
        assert!(of(Model::Copy, Via::AllBatch, |_| {}).contains("recorded in no graph"));
        assert!(of(Model::Kernel, Via::All, |workload| workload.sync_every = 0).contains("at the end alone"));
        assert_eq!(of(Model::Kernel, Via::All, |_| {}), "");
    }
}
