//! `kernel`: the increments as a kernel. `sync` and `launch` are the same on one word, waited for every time and at the
//! end. Each stream has an array of its own, so that no two kernels change the same word at once.

use super::{Measured, ModelError, Work, check, clear, timed, zeroed};
use crate::{
    backend::{Backend, Kernel},
    workload::{Lifetime, Workload},
};

struct Launches<'a, B: Backend> {
    backend: &'a mut B,
    workload: &'a Workload,
    kernel: Kernel,
    /// One for each stream; with `--lifetime pooled` the pool, with `per-iter` empty.
    arrays: Vec<B::Buffer>,
    /// One for each stream, or none.
    graphs: Vec<B::Graph>,
    /// Increments of each stream's array.
    issued: Vec<u64>,
}

/// The launches of one iteration.
fn batch<B: Backend>(
    backend: &mut B,
    workload: &Workload,
    kernel: Kernel,
    stream: usize,
    array: &B::Buffer,
) -> Result<(), ModelError> {
    for _ in 0..workload.operations() {
        backend.launch(stream, array, kernel)?;
    }
    Ok(())
}

impl<B: Backend> Launches<'_, B> {
    /// Launches on an array that is this iteration's alone.
    fn borrowed(&mut self, stream: usize) -> Result<(), ModelError> {
        let array = match self.arrays.pop() {
            Some(array) => array,
            None => self.backend.allocate(self.workload.memory, self.workload.bytes)?,
        };
        batch(self.backend, self.workload, self.kernel, stream, &array)?;
        match self.workload.lifetime {
            // The kernel may still be at work on it; the next one comes after, on the only stream.
            Lifetime::Pooled => self.arrays.push(array),
            Lifetime::PerIter | Lifetime::Once => self.backend.free(array)?,
        }
        Ok(())
    }

    /// One iteration on an array that is cleared before and checked after.
    fn prove(&mut self) -> Result<(), ModelError> {
        let mut array = self.backend.allocate(self.workload.memory, self.workload.bytes)?;
        clear(self.backend, &mut array, self.workload.bytes)?;
        batch(self.backend, self.workload, self.kernel, 0, &array)?;
        read(self.backend, &array, self.workload.bytes, self.workload.batch)?;
        Ok(self.backend.free(array)?)
    }
}

impl<B: Backend> Work for Launches<'_, B> {
    fn issue(&mut self, number: u64) -> Result<(), ModelError> {
        let stream = (number % self.workload.setup.streams as u64) as usize;
        if self.workload.lifetime != Lifetime::Once {
            return self.borrowed(stream);
        }
        self.issued[stream] += 1;
        if let Some(graph) = self.graphs.get(stream) {
            return Ok(self.backend.launch_graph(stream, graph)?);
        }
        batch(self.backend, self.workload, self.kernel, stream, &self.arrays[stream])
    }

    fn wait(&mut self) -> Result<(), ModelError> {
        Ok(self.backend.wait()?)
    }
}

/// Every word of the array must have this value.
fn read<B: Backend>(backend: &mut B, array: &B::Buffer, bytes: usize, expected: u32) -> Result<(), ModelError> {
    let mut words = zeroed(bytes / 4)?;
    if words.is_empty() {
        return Ok(());
    }
    // SAFETY: the words are looked at after the wait.
    unsafe { backend.copy_out(0, array, &mut words)? };
    backend.wait()?;
    check(&words, |_| expected)
}

pub(super) fn run<B: Backend>(backend: &mut B, workload: &Workload) -> Result<Measured, ModelError> {
    let words = u32::try_from(workload.bytes / 4).map_err(|_| ModelError::TooManyWords(workload.bytes))?;
    let kernel = Kernel { words, amount: workload.share(), duration_us: workload.duration_us };
    let streams = workload.setup.streams;
    let mut work =
        Launches { backend, workload, kernel, arrays: Vec::new(), graphs: Vec::new(), issued: vec![0; streams] };
    if workload.lifetime == Lifetime::Once {
        for stream in 0..streams {
            let mut array = work.backend.allocate(workload.memory, workload.bytes)?;
            clear(work.backend, &mut array, workload.bytes)?;
            if workload.graph {
                work.backend.begin_graph(stream)?;
                batch(work.backend, workload, kernel, stream, &array)?;
                let graph = work.backend.end_graph(stream)?;
                work.graphs.push(graph);
            }
            work.arrays.push(array);
        }
    }
    let measured = timed(workload, &mut work)?;
    if workload.lifetime != Lifetime::Once && workload.warmup + workload.iters > 0 {
        work.prove()?;
    }
    let Launches { backend, arrays, issued, .. } = work;
    for (stream, array) in arrays.into_iter().enumerate() {
        if workload.lifetime == Lifetime::Once {
            let expected = issued[stream].wrapping_mul(workload.batch.into()) as u32;
            read(backend, &array, workload.bytes, expected)?;
        }
        backend.free(array)?;
    }
    Ok(measured)
}
