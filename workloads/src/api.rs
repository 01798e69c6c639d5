//! `bench api`: each call of a runtime alone, timed. Every step is a phase of its own, so that a tracer shows the system
//! calls of each.

use gpuos_model::{bench::Percentiles, phase};
use serde::Serialize;

use crate::{
    backend::{Backend, BackendError, Description, Kernel},
    measure::Latencies,
    model::ModelError,
    workload::{Memory, Via, Workload},
};

/// What every step came to.
#[derive(Debug, Serialize)]
pub(crate) struct Calls {
    pub(crate) backend: Description,
    pub(crate) bytes: usize,
    pub(crate) iters: u64,
    pub(crate) warmup: u64,
    pub(crate) steps: Vec<Step>,
}

/// One call, or a few that belong together.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// Also the label of its phase.
    pub(crate) name: &'static str,
    /// Absent when nothing was timed.
    pub(crate) latency: Option<Percentiles>,
    /// Why it was not done.
    pub(crate) skipped: Option<String>,
}

/// Creating a context takes up to a second.
const MOST_CONTEXTS: u64 = 5;

/// Runs one step after the other.
struct Bench<'a, B> {
    backend: B,
    workload: &'a Workload,
    steps: Vec<Step>,
}

impl<B: Backend> Bench<'_, B> {
    /// Times one call as often as the workload says. Whether it is possible.
    fn step(
        &mut self,
        name: &'static str,
        call: impl FnMut(&mut B) -> Result<(), BackendError>,
    ) -> Result<bool, BackendError> {
        self.times(name, self.workload.warmup, self.workload.iters, call)
    }

    /// Says that a step is not possible.
    fn skip(&mut self, name: &'static str, why: &str) {
        self.steps.push(Step { name, latency: None, skipped: Some(why.to_owned()) });
    }

    /// Nothing but the call is in the phase of its name.
    fn times(
        &mut self,
        name: &'static str,
        warmup: u64,
        iters: u64,
        mut call: impl FnMut(&mut B) -> Result<(), BackendError>,
    ) -> Result<bool, BackendError> {
        gpuos_phase::switch(phase::WARMUP);
        let mut latencies = Latencies::new();
        let mut done = || {
            for _ in 0..warmup {
                call(&mut self.backend)?;
            }
            gpuos_phase::switch(name);
            for _ in 0..iters {
                latencies.time(|| call(&mut self.backend))?;
            }
            gpuos_phase::iterations(iters);
            Ok(())
        };
        let skipped = possible(done())?.err();
        gpuos_phase::switch(phase::INIT);
        let is_possible = skipped.is_none();
        self.steps.push(Step { name, latency: latencies.percentiles(), skipped });
        Ok(is_possible)
    }
}

/// What a call gave, or why it is not possible here; any other failure ends it all.
fn possible<T>(result: Result<T, BackendError>) -> Result<Result<T, String>, BackendError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(BackendError::Unsupported { backend, what, .. }) => Ok(Err(format!("{backend} cannot do {what}"))),
        Err(error) => Err(error),
    }
}

fn copy_in<B: Backend>(backend: &mut B, from: &[u32], to: &B::Buffer) -> Result<(), BackendError> {
    // SAFETY: the words are borrowed until the wait.
    unsafe { backend.copy_in(0, from, to) }?;
    backend.wait()
}

fn copy_out<B: Backend>(backend: &mut B, from: &B::Buffer, into: &mut [u32]) -> Result<(), BackendError> {
    // SAFETY: the words are borrowed until the wait.
    unsafe { backend.copy_out(0, from, into) }?;
    backend.wait()
}

pub(crate) fn run<B: Backend>(backend: B, workload: &Workload) -> Result<Calls, ModelError> {
    if !matches!(workload.via, Via::Native | Via::Spin | Via::Block) {
        return Err(ModelError::Senseless(
            "`api` times each call of a runtime alone, and none belongs to a job or a pool\nhint: leave out `--via`",
        ));
    }
    let description = backend.describe();
    let bytes = workload.bytes;
    let words = u32::try_from(bytes / 4).map_err(|_| ModelError::TooManyWords(bytes))?;
    let mut bench = Bench { backend, workload, steps: Vec::new() };

    let kinds: [(&'static str, &'static str, Memory); 4] = [
        ("allocate", "free", Memory::Device),
        ("allocate pinned", "free pinned", Memory::Pinned),
        ("allocate managed", "free managed", Memory::Managed),
        ("allocate from pool", "free to pool", Memory::AsyncPool),
    ];
    for (allocate, free, memory) in kinds {
        if !B::CAPABILITIES.memory.contains(&memory) {
            bench.skip(allocate, "this backend has no memory of this kind");
            continue;
        }
        // All are held until the frees, so that no step has the other's calls; there is room for them beforehand.
        let count = workload.warmup.saturating_add(workload.iters) as usize;
        let mut held = crate::model::room(count)?;
        if !bench.step(allocate, |backend| backend.allocate(memory, bytes).map(|buffer| held.push(buffer)))? {
            continue;
        }
        bench.step(free, |backend| held.pop().map_or(Ok(()), |buffer| backend.free(buffer)))?;
    }

    let mut array = bench.backend.allocate(Memory::Device, bytes)?;
    crate::model::clear(&mut bench.backend, &mut array, bytes)?;
    let mut pageable = crate::model::zeroed(words as usize)?;
    bench.step("copy in", |backend| copy_in(backend, &pageable, &array))?;
    bench.step("copy out", |backend| copy_out(backend, &array, &mut pageable))?;
    match possible(bench.backend.allocate_pinned(words as usize))? {
        Ok(mut pinned) => {
            bench.step("copy in pinned", |backend| copy_in(backend, pinned.words(), &array))?;
            bench.step("copy out pinned", |backend| copy_out(backend, &array, pinned.words()))?;
            bench.backend.free_pinned(pinned)?;
        }
        Err(why) => ["copy in pinned", "copy out pinned"].into_iter().for_each(|name| bench.skip(name, &why)),
    }

    let nothing = Kernel { words: 0, amount: 0, duration_us: 0 };
    bench.step("launch", |backend| backend.launch(0, &array, nothing))?;
    bench.backend.wait()?;
    bench.step("launch and wait", |backend| backend.launch(0, &array, nothing).and_then(|()| backend.wait()))?;
    bench.step("wait for nothing", super::backend::Backend::wait)?;
    bench.step("event", super::backend::Backend::event)?;
    let mut record = || {
        bench.backend.begin_graph(0)?;
        bench.backend.launch(0, &array, nothing)?;
        bench.backend.end_graph(0)
    };
    match possible(record())? {
        Ok(graph) => {
            bench.step("launch graph", |backend| backend.launch_graph(0, &graph))?;
            bench.backend.wait()?;
        }
        Err(why) => bench.skip("launch graph", &why),
    }
    let few = workload.iters.min(MOST_CONTEXTS);
    bench.times("context", workload.warmup.min(1), few, super::backend::Backend::context)?;
    gpuos_phase::switch(phase::TEARDOWN);
    let Bench { mut backend, steps, .. } = bench;
    backend.free(array)?;
    Ok(Calls { backend: description, bytes, iters: workload.iters, warmup: workload.warmup, steps })
}
