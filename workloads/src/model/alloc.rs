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
}

impl<B: Backend> Work for Allocations<'_, B> {
    fn issue(&mut self, _: u64) -> Result<(), ModelError> {
        for _ in 0..self.workload.operations() {
            let buffer = match self.pool.pop() {
                Some(buffer) => buffer,
                None => self.backend.allocate(self.workload.memory, self.bytes)?,
            };
            self.held.push(buffer);
        }
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
    let mut work = Allocations { backend, workload, bytes, pool: room(count)?, held: room(count)? };
    let measured = timed(workload, &mut work)?;
    let Allocations { backend, pool, .. } = work;
    for buffer in pool {
        backend.free(buffer)?;
    }
    Ok(measured)
}
