//! Reads the counts: rows of live threads through shared memory, totals and processes in batches.

use std::{
    collections::{HashMap, hash_map},
    io,
    num::NonZeroUsize,
    os::fd::{AsFd as _, OwnedFd},
    ptr::NonNull,
};

use gpuos_tracer_abi::{
    followed::DevicePath,
    hooks::{HOOKS, HookCounts},
    ioctl::{DRIVER_NONE, rule_index},
    losses::{self, COUNTERS},
    maps,
    phases::{PhaseKey, PhaseNode},
    stacks::{DEPTH, NO_STACK, SiteKey},
    syscalls::{CHUNK_ROWS, Row, RowCounts, RowKey},
    tasks::ProcessRecord,
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{
    error::LoadError,
    load::{MOST_PATHS, Tracer},
    syscall, uninterrupted,
};
use crate::{
    names::{
        devices::{self, Devices},
        nvidia_rules,
    },
    stacks::Stacks,
};

/// The maps that hold the counts. They live on after the programs are detached.
#[derive(Debug)]
pub struct Counters {
    rows: Shared<Row>,
    losses: Shared<u64>,
    totals: OwnedFd,
    totals_room: u32,
    processes: OwnedFd,
    phases: OwnedFd,
    phase_nodes: Shared<PhaseNode>,
    hooks: Shared<HookCounts>,
    drivers: OwnedFd,
    rules: OwnedFd,
    /// Where descriptors are followed.
    device_paths: Option<OwnedFd>,
    programs: Vec<OwnedFd>,
}

impl Tracer {
    /// The maps that hold the counts.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel refuses to map them.
    pub fn counters(&self) -> Result<Counters, LoadError> {
        let step = |error| LoadError::from_step("mapping the counters", &error);
        let clone = |name| self.objects.map(name)?.try_clone_to_owned().map_err(step);
        let programs = self.objects.programs().map(|(_, program)| program.try_clone_to_owned());
        Ok(Counters {
            rows: Shared::map(&clone(maps::ROWS)?, self.rows as usize).map_err(step)?,
            losses: Shared::map(&clone(maps::LOSSES)?, COUNTERS as usize).map_err(step)?,
            totals: clone(maps::TOTALS)?,
            totals_room: self.totals,
            processes: clone(maps::PROCESSES)?,
            phases: clone(maps::PHASES)?,
            phase_nodes: Shared::map(&clone(maps::PHASE_NODES)?, self.phases as usize).map_err(step)?,
            hooks: Shared::map(&clone(maps::HOOK_COUNTS)?, HOOKS.len()).map_err(step)?,
            drivers: clone(maps::DRIVERS)?,
            rules: clone(maps::RULES)?,
            device_paths: self.without_types().map(|_| clone(maps::DEVICE_PATHS)).transpose()?,
            programs: programs.collect::<io::Result<_>>().map_err(step)?,
        })
    }
}

impl Tracer {
    /// User stacks and what was called in them. Empty where they are not kept.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn stacks(&self, counters: &Counters) -> Result<Stacks, LoadError> {
        let step = |error| LoadError::from_step("reading the stacks", &error);
        let sites: Vec<(SiteKey, u64)> = syscall::read_hash(self.objects.map(maps::SITES)?).map_err(step)?;
        let mut stacks = HashMap::new();
        for number in sites.iter().map(|(site, _)| site.stack).filter(|stack| *stack != NO_STACK) {
            if let hash_map::Entry::Vacant(place) = stacks.entry(number) {
                let addresses =
                    syscall::lookup(self.objects.map(maps::STACKS)?, &number, [0_u64; DEPTH]).map_err(step)?;
                place.insert(addresses.into_iter().take_while(|address| *address != 0).collect());
            }
        }
        Ok(Stacks { sites, stacks, lost: counters.loss(losses::SITES_LOST) })
    }
}

impl Counters {
    /// Rows of threads that have not exited. Torn between two calls of a thread, never within a number.
    pub fn live_rows(&self) -> impl Iterator<Item = Row> + '_ {
        // A chunk whose first row is free has no other in use.
        let chunks = (0..self.rows.length).step_by(CHUNK_ROWS as usize);
        let used = chunks.filter(|&first| self.process_of(first) != 0);
        let rows = used.flat_map(|first| first..(first + CHUNK_ROWS as usize).min(self.rows.length));
        rows.filter(|&row| self.process_of(row) != 0)
            .filter_map(|row| self.rows.value(row))
            .filter(|row| row.key.process != 0 && row.counts.calls != 0)
    }

    /// Whose a row is, without reading all of it.
    fn process_of(&self, row: usize) -> u64 {
        // SAFETY: `row` is inside the mapping, and the key stands at the beginning of a row.
        unsafe { self.rows.start.add(row).cast::<u64>().read_volatile() }
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
        // Every one, also those that say nothing: the kernel's zeros would say that the status of an argument without a
        // size stands at its beginning.
        let drivers = devices.drivers();
        if drivers.iter().any(|driver| rule_index(*driver, 0).is_some()) {
            for (index, rule) in (0_u32..).zip(nvidia_rules::rules(devices.nvidia_version.as_ref())) {
                syscall::set_element(self.rules.as_fd(), &index, &rule)?;
            }
        }
        for (major, driver) in (0_u32..).zip(drivers) {
            if driver != DRIVER_NONE {
                syscall::set_element(self.drivers.as_fd(), &major, &driver)?;
            }
        }
        Ok(())
    }

    /// Tells the kernel side where the nodes of devices are, where it follows descriptors from the paths that are opened.
    /// `known`: what it was told before.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_device_paths(&self, known: &mut HashMap<String, u32>) -> io::Result<()> {
        let Some(paths) = &self.device_paths else { return Ok(()) };
        let now: HashMap<String, u32> = devices::nodes().into_iter().collect();
        let gone = known.keys().filter(|path| !now.contains_key(*path));
        let gone: Vec<DevicePath> = gone.filter_map(|path| name_of(path)).collect();
        syscall::delete_from_hash(paths.as_fd(), &gone)?;
        known.retain(|path, _| now.contains_key(path));
        for (path, device) in now {
            let is_full = known.len() >= MOST_PATHS as usize && !known.contains_key(&path);
            if known.get(&path) == Some(&device) || is_full {
                continue;
            }
            if let Some(name) = name_of(&path) {
                syscall::set_element(paths.as_fd(), &name, &device)?;
                known.insert(path, device);
            }
        }
        Ok(())
    }

    /// Events that programs have missed so far because one was running already on that CPU.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn recursion_misses(&self) -> io::Result<u64> {
        self.programs.iter().map(|program| Ok(syscall::facts_of(program.as_fd())?.recursion_misses)).sum()
    }

    /// Whether events are missed while maps are read by system call, see `uninterrupted.rs`.
    #[must_use]
    pub fn reading_costs_events(&self) -> bool {
        uninterrupted::is_wanted()
    }

    /// Threads that may exit before the maps are read where that may cost events: a quarter of what finds room there,
    /// if each makes 32 different calls.
    #[must_use]
    pub fn exits_at_once(&self) -> u64 {
        (u64::from(self.totals_room) / 128).clamp(1, 2048)
    }

    /// A counter of the ABI crate's `losses`.
    #[must_use]
    pub fn loss(&self, counter: u32) -> u64 {
        self.losses.value(counter as usize).unwrap_or(0)
    }
}

/// A path as the kernel side knows it, with a zero at its end; `None` for longer ones.
fn name_of(path: &str) -> Option<DevicePath> {
    let mut name: DevicePath = [0; _];
    name.get_mut(..path.len()).filter(|_| path.len() < size_of::<DevicePath>())?.copy_from_slice(path.as_bytes());
    Some(name)
}

/// A BPF array, mapped for reading. Elements are laid out at multiples of 8 bytes, as all types here are.
#[derive(Debug)]
pub(super) struct Shared<T> {
    start: NonNull<T>,
    length: usize,
}

impl<T: Copy> Shared<T> {
    pub(super) fn map(file: &OwnedFd, length: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(length * size_of::<T>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping; the kernel checks that the map is as large.
        let start = unsafe { mmap(None, bytes, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.cast(), length })
    }

    pub(super) fn value(&self, index: usize) -> Option<T> {
        // SAFETY: inside the mapping; volatile, because the kernel writes meanwhile; all bit patterns are valid.
        (index < self.length).then(|| unsafe { self.start.add(index).read_volatile() })
    }

    fn values(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.length).filter_map(|index| self.value(index))
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
