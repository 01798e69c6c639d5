//! The floor under any tracer: pairs of programs that do next to nothing, for the benchmarks.

use std::os::fd::BorrowedFd;

use gpuos_tracer_abi::{maps, programs, tasks::ThreadState};

use super::{
    error::LoadError,
    kernel_objects::{KernelObjects, Place},
    object,
    structure_cast::StructureCast,
    syscall,
};

/// A pair of programs that does next to nothing, attached while this lives: what every call then pays is
/// the floor under any tracer.
#[derive(Debug)]
pub struct Floor {
    objects: KernelObjects,
}

impl Floor {
    /// Loads and attaches a pair of [`programs::FLOORS`] by what it does.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn start(what: &str) -> Result<Self, LoadError> {
        let pair = programs::FLOORS.into_iter().find(|(does, ..)| *does == what);
        let (_, enter, exit) = pair.ok_or_else(|| LoadError::no_program(what))?;
        let wanted = [(enter, Place::Raw("sys_enter")), (exit, Place::Raw("sys_exit"))];
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
        syscall::set_task_storage(self.objects.map(maps::THREADS)?, pidfd, &ThreadState::ARMED)
            .map_err(|error| LoadError::from_step("marking the command", &error))
    }
}
