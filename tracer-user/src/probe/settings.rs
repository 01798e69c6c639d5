//! What is asked of the BPF side: sizes of its maps, what it counts, times and records.

use gpuos_decode::devices::Devices;
use gpuos_tracer_abi::syscalls::{CHUNK_ROWS, SYSCALL_NUMBERS};

use super::{attach_point::ApiFunction, driver_hooks::DriverHook};

/// What a recording asks of it.
#[derive(Clone, Copy, Debug)]
pub struct RecordingSettings {
    /// Bytes of the ring: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Record when threads do not run.
    pub switches: bool,
    /// Record page faults.
    pub faults: bool,
    /// Record the paths that calls are about.
    pub paths: bool,
}

/// Sizes of maps where nobody asks for others: numbers of entries.
pub mod defaults {
    /// Rows of live threads, on a machine of eight processors or fewer.
    pub const ROWS: u32 = 16_384;
    /// Likewise for each processor of a larger one: 128 chunks. Frameworks have some threads for each.
    pub const ROWS_PER_CPU: u32 = 2048;
    /// Rows of exited threads of processes not yet read.
    pub const TOTALS: u32 = 262_144;
    /// Threads alive at a time where tasks are followed by number.
    pub const THREADS: u32 = 65_536;
    /// Processes not yet read.
    pub const PROCESSES: u32 = 65_536;
    /// Objects of NVIDIA's driver whose class is remembered.
    pub const OBJECTS: u32 = 65_536;
    /// Phases that are kept apart.
    pub const PHASES: u32 = 1024;
    /// User stacks that are kept where they are wanted.
    pub const STACKS: u32 = 16_384;
    /// Bytes of the ring of a recording.
    pub const RING: &str = "16M";
    /// Bytes that a flight recorder keeps.
    pub const MEMORY: &str = "256M";
}

/// What is asked of the BPF side. Every size is a number of entries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time every call.
    pub timed: bool,
    /// Threads that run already will be traced: their first return may belong to a call that began before.
    pub attaching: bool,
    /// Time every Nth call of a thread; 1: every call.
    pub sample: u32,
    /// Follow tasks by number and through perf's tracepoints also where the kernel has the better way.
    pub tasks_by_id: bool,
    /// Threads alive at a time where tasks are followed by number.
    pub threads: u32,
    /// Keep rows by thread, not by process.
    pub per_thread: bool,
    /// Count only these syscall numbers; `None`: all.
    pub wanted: Option<Vec<u32>>,
    /// Rows of live threads, 448 bytes each; rounded up to chunks of 16, at most 65,520.
    pub rows: u32,
    /// Rows of exited threads of processes not yet read, about 400 bytes each while used.
    pub totals: u32,
    /// Processes not yet read, about 200 bytes each while used.
    pub processes: u32,
    /// Objects of NVIDIA's driver whose class is remembered, about 70 bytes each while used.
    pub objects: u32,
    /// Phases that are kept apart, some 200 bytes each.
    pub phases: u32,
    /// Functions of drivers to watch.
    pub hooks: Vec<DriverHook>,
    /// Functions of GPU libraries to watch, at most
    /// [`gpuos_tracer_abi::phases::MOST_FUNCTIONS`].
    pub functions: Vec<ApiFunction>,
    /// User stacks and places in programs that are kept; 0: none.
    pub stacks: u32,
    /// Drivers of this machine, to decode their calls.
    pub devices: Devices,
    /// Infer phases from calls on GPU devices.
    pub infer_phases: bool,
    /// Send every call through the ring, too.
    pub recording: Option<RecordingSettings>,
    /// What the programs say of their work.
    #[cfg(feature = "bpf-log")]
    pub log: Option<log::LevelFilter>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timed: true,
            attaching: false,
            sample: 1,
            tasks_by_id: false,
            threads: defaults::THREADS,
            per_thread: false,
            wanted: None,
            rows: Self::rows_of_this_machine(),
            totals: defaults::TOTALS,
            processes: defaults::PROCESSES,
            objects: defaults::OBJECTS,
            phases: defaults::PHASES,
            hooks: Vec::new(),
            functions: Vec::new(),
            stacks: 0,
            devices: Devices::default(),
            infer_phases: false,
            recording: None,
            #[cfg(feature = "bpf-log")]
            log: None,
        }
    }
}

impl Settings {
    /// The smallest ring, and that of a trace without a recording: a page of any size the kernel may have.
    pub const SMALLEST_RING: u32 = 64 << 10;

    /// The largest `rows`: a thread keeps its number in 16 bits, with 0 for none.
    pub const MOST_ROWS: u32 = 65_520;

    /// Rows of live threads where nobody asks for another number.
    #[must_use]
    pub fn rows_of_this_machine() -> u32 {
        let cpus = aya::util::nr_cpus().map_or(1, |cpus| cpus as u32);
        cpus.saturating_mul(defaults::ROWS_PER_CPU).clamp(defaults::ROWS, Self::MOST_ROWS)
    }

    pub(super) fn chunks(&self) -> u32 {
        self.rows.clamp(1, Self::MOST_ROWS).div_ceil(CHUNK_ROWS)
    }

    pub(super) fn slots(&self) -> u32 {
        self.chunks() * CHUNK_ROWS
    }

    pub(super) fn bitmap(&self) -> [u64; SYSCALL_NUMBERS / 64] {
        let mut words = [0; SYSCALL_NUMBERS / 64];
        for &number in self.wanted.iter().flatten() {
            if let Some(word) = words.get_mut(number as usize / 64) {
                *word |= 1 << (number % 64);
            }
        }
        words
    }
}
