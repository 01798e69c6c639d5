//! Reads the counts: rows of live threads through shared memory, totals and processes in batches.

use std::{
    collections::{HashMap, hash_map},
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use bytemuck::Pod;
use gpuos_decode::{
    devices::{self, Devices},
    driver_rules,
};
use gpuos_recording::ring::Ring;
use gpuos_tracer_abi::{
    counters,
    fd_table::DevicePath,
    hooks::{HOOKS, HookCounts},
    ioctl::{DRIVER_NONE, DeviceId, Rule, rule_index},
    maps,
    phases::{PhaseKey, PhaseNode},
    stacks::{DEPTH, NO_STACK, StackSite},
    syscalls::{CHUNK_ROWS, CounterSlot, RowCounts, RowKey},
    tasks::ProcessRecord,
};

use super::{
    bpf_syscall,
    error::LoadError,
    load::{MOST_PATHS, Tracer},
    map::{Map, SharedArray},
    no_preempt,
};

/// The maps that hold the counts. They live on after the programs are detached.
#[derive(Debug)]
pub struct Counters {
    slots: SharedArray<CounterSlot>,
    counters: SharedArray<u64>,
    state: SharedArray<u64>,
    totals: Map<RowKey, RowCounts>,
    totals_room: u32,
    processes: Map<u64, ProcessRecord>,
    phases: Map<PhaseKey, u32>,
    phase_nodes: SharedArray<PhaseNode>,
    hooks: SharedArray<HookCounts>,
    drivers: Map<u32, u32>,
    rules: Map<u32, Rule>,
    /// Where fds are followed.
    device_paths: Option<Map<DevicePath, DeviceId>>,
    programs: Vec<OwnedFd>,
}

impl Tracer {
    /// The maps that hold the counts.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel refuses to map them.
    pub fn counters(&self) -> Result<Counters, LoadError> {
        let step = |error| LoadError::from_step("mapping the counters", &error);
        let programs = self.objects.programs().map(|(_, program)| program.try_clone_to_owned());
        Ok(Counters {
            slots: self.shared(maps::SLOTS, self.rows as usize)?,
            counters: self.shared(maps::COUNTERS, counters::COUNTERS as usize)?,
            state: self.shared(maps::STATE, counters::state::WORDS as usize)?,
            totals: self.objects.typed_map(maps::TOTALS)?,
            totals_room: self.totals,
            processes: self.objects.typed_map(maps::PROCESSES)?,
            phases: self.objects.typed_map(maps::PHASES)?,
            phase_nodes: self.shared(maps::PHASE_NODES, self.phases as usize)?,
            hooks: self.shared(maps::HOOK_COUNTS, HOOKS.len())?,
            drivers: self.objects.typed_map(maps::DRIVERS)?,
            rules: self.objects.typed_map(maps::RULES)?,
            device_paths: self.without_btf().map(|_| self.objects.typed_map(maps::DEVICE_PATHS)).transpose()?,
            programs: programs.collect::<io::Result<_>>().map_err(step)?,
        })
    }

    /// An array of the object, mapped for reading.
    fn shared<T: Pod>(&self, name: &'static str, length: usize) -> Result<SharedArray<T>, LoadError> {
        SharedArray::map(&self.objects.typed_map(name)?, length)
            .map_err(|error| LoadError::from_step("mapping the counters", &error))
    }

    /// The ring of a recording, of as many bytes as it was made with; once.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel refuses to map it.
    pub fn take_ring(&mut self, bytes: u32) -> Result<Ring, LoadError> {
        let counters: SharedArray<u64> = self.shared(maps::COUNTERS, counters::COUNTERS as usize)?;
        let lost = move || counters.value(counters::EVENTS_LOST as usize).unwrap_or(0);
        let file = self.objects.take_ring(maps::EVENTS, bytes)?;
        // SAFETY: a ring buffer of this size, which nobody else reads.
        unsafe { Ring::map(&file, bytes as usize, lost) }
            .map_err(|error| LoadError::from_step("mapping the ring", &error))
    }

    /// User stacks and what was called in them. Empty where they are not kept.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn stacks(&self, counters: &Counters) -> Result<Stacks, LoadError> {
        let step = |error| LoadError::from_step("reading the stacks", &error);
        let sites = self.objects.typed_map::<StackSite, u64>(maps::STACK_SITES)?.entries().map_err(step)?;
        let addresses_of = self.objects.typed_map::<u32, [u64; DEPTH]>(maps::STACKS)?;
        let mut stacks = HashMap::new();
        for number in sites.iter().map(|(site, _)| site.stack).filter(|stack| *stack != NO_STACK) {
            if let hash_map::Entry::Vacant(place) = stacks.entry(number) {
                let addresses = addresses_of.get(&number).map_err(step)?;
                place.insert(addresses.into_iter().take_while(|address| *address != 0).collect());
            }
        }
        Ok(Stacks { sites, stacks, lost: counters.counter(counters::STACK_SITES_LOST) })
    }
}

/// User stacks and the calls that were made in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stacks {
    /// Calls by place.
    pub sites: Vec<(StackSite, u64)>,
    /// Addresses by the number of a stack, the innermost first.
    pub stacks: HashMap<u32, Vec<u64>>,
    /// Calls whose place found no room.
    pub lost: u64,
}

impl Counters {
    /// Rows of threads that have not exited. Torn between two calls of a thread, never within a number.
    pub fn live_rows(&self) -> impl Iterator<Item = CounterSlot> + '_ {
        // A chunk whose first row is free has no other in use.
        let chunks = (0..self.slots.len()).step_by(CHUNK_ROWS as usize);
        let used = chunks.filter(|&first| self.process_of(first) != 0);
        let rows = used.flat_map(|first| first..(first + CHUNK_ROWS as usize).min(self.slots.len()));
        rows.filter(|&row| self.process_of(row) != 0)
            .filter_map(|row| self.slots.value(row))
            .filter(|row| row.key.process != 0 && row.counts.calls != 0)
    }

    /// Whose a row is, without reading all of it.
    fn process_of(&self, row: usize) -> u64 {
        // The process begins the key, which begins the slot.
        self.slots.first_word(row).unwrap_or(0)
    }

    /// Counts of threads that have exited.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn totals(&self) -> io::Result<Vec<(RowKey, RowCounts)>> {
        self.totals.entries()
    }

    /// Every process not yet forgotten.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn processes(&self) -> io::Result<Vec<(u64, ProcessRecord)>> {
        self.processes.entries()
    }

    /// Every phase, in the order of their numbers; the first has 1.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn phases(&self) -> io::Result<Vec<(PhaseKey, PhaseNode)>> {
        let keys = self.phases.entries()?;
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
        self.totals.delete(totals)?;
        self.processes.delete(processes)
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
            for (index, rule) in (0_u32..).zip(driver_rules::rules(devices.nvidia_version.as_ref())) {
                self.rules.set(&index, &rule)?;
            }
        }
        for (major, driver) in (0_u32..).zip(drivers) {
            if driver != DRIVER_NONE {
                self.drivers.set(&major, &driver)?;
            }
        }
        Ok(())
    }

    /// Tells the kernel side where the nodes of devices are, where it follows fds from the paths that are opened.
    /// `known`: what it was told before.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_device_paths(&self, known: &mut HashMap<String, DeviceId>) -> io::Result<()> {
        let Some(paths) = &self.device_paths else { return Ok(()) };
        let now: HashMap<String, DeviceId> = devices::nodes().into_iter().collect();
        let gone = known.keys().filter(|path| !now.contains_key(*path));
        let gone: Vec<DevicePath> = gone.filter_map(|path| name_of(path)).collect();
        paths.delete(&gone)?;
        known.retain(|path, _| now.contains_key(path));
        for (path, device) in now {
            let is_full = known.len() >= MOST_PATHS as usize && !known.contains_key(&path);
            if known.get(&path) == Some(&device) || is_full {
                continue;
            }
            if let Some(name) = name_of(&path) {
                paths.set(&name, &device)?;
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
        self.programs.iter().map(|program| Ok(bpf_syscall::facts_of(program.as_fd())?.recursion_misses)).sum()
    }

    /// Whether events are missed while maps are read by system call, see `no_preempt.rs`.
    #[must_use]
    pub fn reading_costs_events(&self) -> bool {
        no_preempt::is_wanted()
    }

    /// Threads that may exit before the maps are read where that may cost events: a quarter of what finds room there,
    /// if each makes 32 different calls.
    #[must_use]
    pub fn exits_at_once(&self) -> u64 {
        (u64::from(self.totals_room) / 128).clamp(1, 2048)
    }

    /// A counter of the ABI crate's `counters`.
    #[must_use]
    pub fn counter(&self, counter: u32) -> u64 {
        self.counters.value(counter as usize).unwrap_or(0)
    }

    /// A word of `counters::state` there.
    #[must_use]
    pub fn state(&self, word: u32) -> u64 {
        self.state.value(word as usize).unwrap_or(0)
    }
}

/// A path as the kernel side knows it, with a zero at its end; `None` for longer ones.
fn name_of(path: &str) -> Option<DevicePath> {
    let mut name: DevicePath = [0; _];
    name.get_mut(..path.len()).filter(|_| path.len() < size_of::<DevicePath>())?.copy_from_slice(path.as_bytes());
    Some(name)
}
