//! The baseline of any tracer: pairs of programs that do next to nothing, for the benchmarks.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use gpuos_tracer_abi::{maps, programs, tasks::ThreadState};

use super::{
    attach_point::AttachPoint, error::LoadError, kernel_objects::KernelObjects, object, structure_cast::StructureCast,
};

/// A pair of programs that does next to nothing, attached while this lives: what every call then pays is
/// the baseline of any tracer.
#[derive(Debug)]
pub struct Baseline {
    objects: KernelObjects,
}

impl Baseline {
    /// Loads and attaches a pair of [`programs::BASELINES`] by what it does.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn start(what: &str) -> Result<Self, LoadError> {
        let pair = programs::BASELINES.into_iter().find(|(does, ..)| *does == what);
        let (_, enter, exit) = pair.ok_or_else(|| LoadError::no_program(what))?;
        let wanted = [(enter, AttachPoint::Raw("sys_enter")), (exit, AttachPoint::Raw("sys_exit"))];
        let mut objects = KernelObjects::load(object::BYTES, &[], &[], &wanted, StructureCast::default(), false)?;
        for (program, place) in wanted {
            objects.attach(program, place)?;
        }
        Ok(Self { objects })
    }

    /// Gives a task storage, as a traced one has.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn mark(&self, pidfd: BorrowedFd<'_>) -> Result<(), LoadError> {
        let threads = self.objects.typed_map::<i32, ThreadState>(maps::THREADS)?;
        threads
            .insert(&pidfd.as_raw_fd(), &ThreadState::ARMED)
            .map_err(|error| LoadError::from_step("marking the command", &error))
    }
}
