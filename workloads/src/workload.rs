//! What a run of `bench` is asked to do, independent of how it was asked. Field names are those of the JSON report.

use clap::ValueEnum;
use serde::Serialize;

/// Who executes the unit of work, and what that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Model {
    /// A loop on the CPU increments an array.
    Cpu,
    /// A runtime allocates and frees a buffer.
    Alloc,
    /// A kernel increments an array.
    Kernel,
    /// An array is copied between host and device.
    Copy,
    /// A kernel of one word is launched and waited for.
    Sync,
    /// A kernel of one word is launched, and waited for at the end.
    Launch,
}

impl Model {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Alloc => "alloc",
            Self::Kernel => "kernel",
            Self::Copy => "copy",
            Self::Sync => "sync",
            Self::Launch => "launch",
        }
    }
}

/// How a thread waits for the device, where the runtime lets programs choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wait {
    /// As the runtime decides
    #[default]
    Default,
    /// In a loop of user code: no system call, one busy core
    Spin,
    /// In a loop of `sched_yield`
    Yield,
    /// Asleep until the device's interrupt
    Block,
}

/// What kind of memory is allocated, or copied from and to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Memory {
    /// Of the device
    #[default]
    Device,
    /// Of the host, locked, mapped into the device
    Pinned,
    /// Of the host, as `malloc` gives it (`copy` only)
    Pageable,
    /// That moves between host and device as it is touched
    Managed,
    /// Of the device, from the runtime's own pool, in the order of a stream
    AsyncPool,
}

/// How long an allocation lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Lifetime {
    /// Allocated before the work, freed after it
    #[default]
    Once,
    /// Allocated and freed in every iteration
    PerIter,
    /// Taken from and given back to a pool of `bench`'s own in every iteration
    Pooled,
}

/// Which way a copy goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// From host to device
    #[default]
    H2d,
    /// From device to host
    D2h,
}

/// Through what the work goes: an arm of an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Via {
    /// The runtime's own calls
    #[default]
    Native,
    /// The same with `--wait spin`
    Spin,
    /// The same with `--wait block`
    Block,
    /// The same with `--memory async-pool --pool-threshold max`
    Pool,
    /// Its thread says what it works for (`gpuos-job`)
    Identity,
    /// Waits are those of jobs
    Completion,
    /// Memory of an iteration is a job's
    Arena,
    /// Jobs: all three
    All,
    /// Jobs, and a batch is launched as a graph
    AllBatch,
}

/// Parts of jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) identity: bool,
    pub(crate) completion: bool,
    pub(crate) arena: bool,
}

impl Via {
    /// Which parts of jobs; `None` where there are none.
    pub(crate) fn parts(self) -> Option<Parts> {
        let none = Parts::default();
        match self {
            Self::Native | Self::Spin | Self::Block | Self::Pool => None,
            Self::Identity => Some(Parts { identity: true, ..none }),
            Self::Completion => Some(Parts { completion: true, ..none }),
            Self::Arena => Some(Parts { arena: true, ..none }),
            Self::All | Self::AllBatch => Some(Parts { identity: true, completion: true, arena: true }),
        }
    }

    /// The workload through this, where that option of the runtime is not given already.
    pub(crate) fn applied(self, mut workload: Workload) -> Workload {
        workload.via = self;
        match self {
            Self::Spin if workload.setup.wait == Wait::Default => workload.setup.wait = Wait::Spin,
            Self::Block if workload.setup.wait == Wait::Default => workload.setup.wait = Wait::Block,
            Self::Pool if workload.memory == Memory::Device && workload.setup.pool_threshold.is_none() => {
                workload.memory = Memory::AsyncPool;
                workload.setup.pool_threshold = Some(u64::MAX);
            }
            Self::AllBatch => workload.graph = true,
            Self::Native
            | Self::Spin
            | Self::Block
            | Self::Pool
            | Self::Identity
            | Self::Completion
            | Self::Arena
            | Self::All => {}
        }
        workload
    }
}

/// A whole run. What a model has no use for keeps its default.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Workload {
    pub(crate) model: Model,
    /// Through what it goes.
    pub(crate) via: Via,
    /// Size of the array or of one allocation.
    pub(crate) bytes: usize,
    pub(crate) iters: u64,
    pub(crate) warmup: u64,
    /// Operations of one iteration.
    pub(crate) batch: u32,
    /// Whether one operation does the work of the whole batch.
    pub(crate) fused: bool,
    /// Iterations between waits; 0 waits only at the end.
    pub(crate) sync_every: u64,
    pub(crate) memory: Memory,
    pub(crate) lifetime: Lifetime,
    /// Iterations of `alloc` that have the same buffer before it is freed.
    pub(crate) free_every: u64,
    pub(crate) direction: Direction,
    /// Whether a batch is recorded once and launched as a graph.
    pub(crate) graph: bool,
    /// How long a kernel takes at least, in microseconds of the device's clock.
    pub(crate) duration_us: u32,
    #[serde(flatten)]
    pub(crate) setup: Setup,
}

/// How a runtime is opened.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Setup {
    /// Which of the runtime's devices.
    pub(crate) device: usize,
    pub(crate) wait: Wait,
    /// Iterations take turns on so many streams.
    pub(crate) streams: usize,
    /// Number of processes that do the same at once.
    pub(crate) processes: u32,
    /// Bytes that the runtime's own pool keeps at a wait, where that is set.
    pub(crate) pool_threshold: Option<u64>,
}

impl Workload {
    /// The workload of a model without any option.
    pub(crate) fn new(model: Model, bytes: usize, iters: u64, warmup: u64) -> Self {
        Self {
            model,
            via: Via::Native,
            bytes,
            iters,
            warmup,
            batch: 1,
            fused: false,
            sync_every: 1,
            memory: Memory::Device,
            lifetime: Lifetime::Once,
            free_every: 1,
            direction: Direction::H2d,
            graph: false,
            duration_us: 0,
            setup: Setup { device: 0, wait: Wait::Default, streams: 1, processes: 1, pool_threshold: None },
        }
    }

    /// Operations that an iteration issues one by one.
    pub(crate) fn operations(&self) -> u32 {
        if self.fused { 1 } else { self.batch }
    }

    /// How much of the unit of work one operation does.
    pub(crate) fn share(&self) -> u32 {
        if self.fused { self.batch } else { 1 }
    }
}
