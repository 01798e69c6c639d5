//! Reads the counts: rows of live threads through shared memory, totals and processes in batches.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::{AsFd as _, OwnedFd},
    ptr::NonNull,
};

use gpuos_tracer_abi::{
    hooks::{HOOKS, HookCounts},
    ioctl::{DRIVER_NONE, Rule},
    losses::COUNTERS,
    phases::{PhaseKey, PhaseNode},
    syscalls::{Row, RowCounts, RowKey},
    tasks::ProcessRecord,
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{load::keep_running, syscall};
use crate::names::{devices::Devices, nvidia_rules};

/// The maps that hold the counts. They live on after the programs are detached.
#[derive(Debug)]
pub struct Counters {
    rows: Shared<Row>,
    losses: Shared<u64>,
    totals: OwnedFd,
    processes: OwnedFd,
    phases: OwnedFd,
    phase_nodes: Shared<PhaseNode>,
    hooks: Shared<HookCounts>,
    drivers: OwnedFd,
    rules: OwnedFd,
}

impl Counters {
    pub(super) fn new(
        (rows, row_count): (&OwnedFd, u32),
        (phase_nodes, phase_count, phases): (&OwnedFd, u32, OwnedFd),
        hooks: &OwnedFd,
        totals: OwnedFd,
        processes: OwnedFd,
        [drivers, rules]: [OwnedFd; 2],
        losses: &OwnedFd,
    ) -> io::Result<Self> {
        Ok(Self {
            rows: Shared::map(rows, row_count as usize)?,
            phase_nodes: Shared::map(phase_nodes, phase_count as usize)?,
            phases,
            hooks: Shared::map(hooks, HOOKS.len())?,
            losses: Shared::map(losses, COUNTERS as usize)?,
            totals,
            processes,
            drivers,
            rules,
        })
    }

    /// Rows of threads that have not exited. Torn between two calls of a thread, never within a number.
    pub fn live_rows(&self) -> impl Iterator<Item = (RowKey, RowCounts)> + '_ {
        self.rows.values().filter(|row| row.key.process != 0 && row.counts.calls != 0).map(|row| (row.key, row.counts))
    }

    /// Counts of threads that have exited.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn totals(&self) -> io::Result<Vec<(RowKey, RowCounts)>> {
        syscall::read_hash(self.totals.as_fd())
    }

    /// Every process not yet forgotten.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn processes(&self) -> io::Result<Vec<(u64, ProcessRecord)>> {
        syscall::read_hash(self.processes.as_fd())
    }

    /// Every phase, in the order of their numbers; the first has 1.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn phases(&self) -> io::Result<Vec<(PhaseKey, PhaseNode)>> {
        let keys = syscall::read_hash::<PhaseKey, u32>(self.phases.as_fd())?;
        let last = keys.iter().map(|(_, number)| *number).max().unwrap_or(0);
        let mut phases: Vec<(PhaseKey, PhaseNode)> =
            self.phase_nodes.values().take(last as usize).map(|node| (PhaseKey::EMPTY, node)).collect();
        for (key, number) in keys {
            if let Some((place, _)) = phases.get_mut((number as usize).wrapping_sub(1)) {
                *place = key;
            }
        }
        Ok(phases)
    }

    /// What was counted at the functions of drivers, by the index in [`HOOKS`].
    #[must_use]
    pub fn hooks(&self) -> Vec<HookCounts> {
        self.hooks.values().collect()
    }

    /// Takes totals and processes out of the maps, once read.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forget(&self, totals: &[RowKey], processes: &[u64]) -> io::Result<()> {
        syscall::delete_from_hash(self.totals.as_fd(), totals)?;
        syscall::delete_from_hash(self.processes.as_fd(), processes)
    }

    /// Tells the kernel side which driver has which major number, and before that how to read its arguments.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_drivers(&self, devices: &Devices) -> io::Result<()> {
        for (index, rule) in (0_u32..).zip(nvidia_rules::rules(devices.nvidia_version.as_ref())) {
            if rule != Rule::NONE {
                syscall::set_element(self.rules.as_fd(), &index, &rule)?;
            }
        }
        for (major, driver) in (0_u32..).zip(devices.drivers()) {
            if driver != DRIVER_NONE {
                syscall::set_element(self.drivers.as_fd(), &major, &driver)?;
            }
        }
        Ok(())
    }

    /// A counter of the ABI crate's `losses`.
    #[must_use]
    pub fn loss(&self, counter: u32) -> u64 {
        self.losses.values().nth(counter as usize).unwrap_or(0)
    }
}

impl Drop for Counters {
    /// The maps are not read any more.
    fn drop(&mut self) {
        keep_running(false);
    }
}

/// A BPF array, mapped for reading. Elements are laid out at multiples of 8 bytes, as all types here are.
#[derive(Debug)]
struct Shared<T> {
    start: NonNull<T>,
    length: usize,
}

impl<T: Copy> Shared<T> {
    fn map(file: &OwnedFd, length: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(length * size_of::<T>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping; the kernel checks that the map is as large.
        let start = unsafe { mmap(None, bytes, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.cast(), length })
    }

    fn values(&self) -> impl Iterator<Item = T> + '_ {
        // SAFETY: inside the mapping; volatile, because the kernel writes meanwhile; all bit patterns are valid.
        (0..self.length).map(|index| unsafe { self.start.add(index).read_volatile() })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody borrows from it any more.
        let _ = unsafe { munmap(self.start.cast(), self.length * size_of::<T>()) };
    }
}

// SAFETY: the memory is only read.
unsafe impl<T: Send> Send for Shared<T> {}
