//! `copy`: an array goes from the host to the device or back. What arrives is checked.

use super::{Measured, ModelError, Work, check, clear, timed, zeroed};
use crate::{
    backend::{Backend, Pinned},
    workload::{Direction, Memory, Workload},
};

/// Memory of the host at one end of a copy.
enum Host {
    Pageable(Vec<u32>),
    Pinned(Pinned),
}

impl Host {
    fn words(&mut self) -> &mut [u32] {
        match self {
            Self::Pageable(array) => array,
            Self::Pinned(array) => array.words(),
        }
    }
}

/// Each stream copies between two arrays of its own.
struct Copies<'a, B: Backend> {
    backend: &'a mut B,
    workload: &'a Workload,
    arrays: Vec<(Host, B::Buffer)>,
}

impl<B: Backend> Work for Copies<'_, B> {
    fn issue(&mut self, number: u64) -> Result<(), ModelError> {
        let stream = (number % self.arrays.len() as u64) as usize;
        let (host, device) = &mut self.arrays[stream];
        for _ in 0..self.workload.operations() {
            // The arrays live, and nobody looks at them, until `wait`, which `timed` always calls at the end.
            match self.workload.direction {
                // SAFETY: as above.
                Direction::H2d => unsafe { self.backend.copy_in(stream, host.words(), device) }?,
                // SAFETY: as above.
                Direction::D2h => unsafe { self.backend.copy_out(stream, device, host.words()) }?,
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), ModelError> {
        Ok(self.backend.wait()?)
    }
}

/// A word that tells its place.
fn pattern(index: usize) -> u32 {
    (index as u32).wrapping_mul(0x9E37_79B9) ^ 0x5bd1_e995
}

pub(super) fn run<B: Backend>(backend: &mut B, workload: &Workload) -> Result<Measured, ModelError> {
    let bytes = workload.bytes * workload.share() as usize;
    let words = bytes / 4;
    let mut arrays = Vec::new();
    for _ in 0..workload.setup.streams {
        let mut host = match workload.memory {
            Memory::Pinned => Host::Pinned(backend.allocate_pinned(words)?),
            Memory::Pageable | Memory::Device | Memory::Managed | Memory::AsyncPool => Host::Pageable(zeroed(words)?),
        };
        let mut device = backend.allocate(Memory::Device, bytes)?;
        clear(backend, &mut device, bytes)?;
        host.words().iter_mut().enumerate().for_each(|(index, word)| *word = pattern(index));
        if workload.direction == Direction::D2h {
            // SAFETY: the array stays as it is until the wait.
            unsafe { backend.copy_in(0, host.words(), &device)? };
            backend.wait()?;
            host.words().fill(0);
        }
        arrays.push((host, device));
    }
    let mut work = Copies { backend, workload, arrays };
    let measured = timed(workload, &mut work)?;
    let Copies { backend, arrays, .. } = work;
    let used = (workload.warmup + workload.iters).min(workload.setup.streams as u64) as usize;
    for (number, (mut host, device)) in arrays.into_iter().enumerate() {
        if workload.direction == Direction::H2d {
            host.words().fill(0);
            // SAFETY: the array is looked at after the wait.
            unsafe { backend.copy_out(0, &device, host.words())? };
            backend.wait()?;
        }
        if number < used {
            check(host.words(), pattern)?;
        }
        backend.free(device)?;
        if let Host::Pinned(array) = host {
            backend.free_pinned(array)?;
        }
    }
    Ok(measured)
}
