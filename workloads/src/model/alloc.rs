//! `alloc`: buffers are allocated and freed, and nothing else.

use super::{ModelError, Outcome, Work, room, timed};
use crate::{
    backend::Backend,
    plan::{Lifetime, Plan},
};

struct Allocations<'a, B: Backend> {
    backend: &'a mut B,
    plan: &'a Plan,
    bytes: usize,
    /// Allocated and in nobody's hands; used by `--lifetime pooled` alone.
    pool: Vec<B::Buffer>,
    /// In the hands of the iteration.
    held: Vec<B::Buffer>,
}

impl<B: Backend> Work for Allocations<'_, B> {
    fn issue(&mut self, _: u64) -> Result<(), ModelError> {
        for _ in 0..self.plan.operations() {
            let buffer = match self.pool.pop() {
                Some(buffer) => buffer,
                None => self.backend.allocate(self.plan.memory, self.bytes)?,
            };
            self.held.push(buffer);
        }
        for buffer in self.held.drain(..) {
            match self.plan.lifetime {
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

pub(super) fn run<B: Backend>(backend: &mut B, plan: &Plan) -> Result<Outcome, ModelError> {
    let bytes = plan
        .bytes
        .checked_mul(plan.share() as usize)
        .ok_or(ModelError::TooLarge { bytes: plan.bytes, batch: plan.batch })?;
    // Room beforehand, so that nothing of ours is allocated in the timed work.
    let count = plan.operations() as usize;
    let mut work = Allocations { backend, plan, bytes, pool: room(count)?, held: room(count)? };
    let outcome = timed(plan, &mut work)?;
    let Allocations { backend, pool, .. } = work;
    for buffer in pool {
        backend.free(buffer)?;
    }
    Ok(outcome)
}
