//! `alloc`: buffers are allocated and freed, and nothing else.

use super::{Measured, ModelError, Work, room, timed};
use crate::{
    backend::Backend,
    workload::{Lifetime, Workload},
};

struct Allocations<'a, B: Backend> {
    backend: &'a mut B,
    workload: &'a Workload,
    bytes: usize,
    /// Allocated and in nobody's hands; used by `--lifetime pooled` alone.
    pool: Vec<B::Buffer>,
    /// In the hands of the iteration.
    held: Vec<B::Buffer>,
    /// Iterations that have had what is held.
    age: u64,
}

impl<B: Backend> Work for Allocations<'_, B> {
    fn issue(&mut self, _: u64) -> Result<(), ModelError> {
        let missing = self.workload.operations() as usize - self.held.len();
        for _ in 0..missing {
            let buffer = match self.pool.pop() {
                Some(buffer) => buffer,
                None => self.backend.allocate(self.workload.memory, self.bytes)?,
            };
            self.held.push(buffer);
        }
        self.age += 1;
        if self.age < self.workload.free_every {
            return Ok(());
        }
        self.age = 0;
        for buffer in self.held.drain(..) {
            match self.workload.lifetime {
                Lifetime::Pooled => self.pool.push(buffer),
                Lifetime::PerIter | Lifetime::Once => self.backend.free(buffer)?,
            }
        }
        Ok(())
    }

    /// Only where somebody asked for waits: an allocation is done when its call returns.
    fn wait(&mut self) -> Result<(), ModelError> {
        Ok(self.backend.wait()?)
    }
}

pub(super) fn run<B: Backend>(backend: &mut B, workload: &Workload) -> Result<Measured, ModelError> {
    let bytes = workload
        .bytes
        .checked_mul(workload.share() as usize)
        .ok_or(ModelError::TooLarge { bytes: workload.bytes, batch: workload.batch })?;
    // Room beforehand, so that nothing of ours is allocated in the timed work.
    let count = workload.operations() as usize;
    let mut work = Allocations { backend, workload, bytes, pool: room(count)?, held: room(count)?, age: 0 };
    let measured = timed(workload, &mut work)?;
    let Allocations { backend, pool, held, .. } = work;
    for buffer in pool.into_iter().chain(held) {
        backend.free(buffer)?;
    }
    Ok(measured)
}
