//! The command line of `bench`: clap's structures, and the workload that they make. Nothing else knows clap.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::workload::{Direction, Lifetime, Memory, Model, Setup, Via, Wait, Workload};

/// One unit of work, issued the same way on every execution stack
///
/// `cpu` and `kernel` do the same work: they add 1 to every 32-bit word of an array, `--iters` times.
/// `alloc` allocates and frees one buffer of the same size as often.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    /// Lists every backend, whether it works here, its library, its devices and what it can do
    #[arg(long)]
    pub(crate) list: bool,
    /// Print the list as JSON on standard output
    #[arg(long, requires = "list")]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// No GPU runtime: the increments are a loop on the CPU
    Cpu(CpuOptions),
    /// A GPU runtime, bookkeeping only: allocate a buffer and free it
    Alloc(AllocOptions),
    /// A GPU runtime executes a kernel that does the increments
    Kernel(KernelOptions),
    /// A GPU runtime copies an array between host and device
    Copy(CopyOptions),
    /// A kernel of one word, and a wait for it
    Sync(SyncOptions),
    /// Kernels of one word, waited for at the end
    Launch(LaunchOptions),
    /// How long each call of a runtime takes: allocations, copies, launches, waits, contexts
    Api(ApiOptions),
    /// A real model on ONNX Runtime, on the CPU or a GPU
    #[cfg(feature = "infer")]
    Infer(InferOptions),
    /// A real model on ONNX Runtime: this `bench` was built without it
    #[cfg(not(feature = "infer"))]
    Infer {
        /// Whatever is asked of it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<String>,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Size {
    /// Size of the array or buffer: a number with K, M, G (powers of 1,024) or kB, MB, GB (of 1,000)
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size)]
    bytes: usize,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Repetition {
    /// How often the unit of work is issued; 0 does everything but the timed work
    #[arg(long, value_name = "N", default_value_t = 100)]
    iters: u64,
    /// Untimed units of work before
    #[arg(long, value_name = "N", default_value_t = 10)]
    warmup: u64,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Batch {
    /// Operations of one iteration
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Let one operation do the work of the batch: a kernel adds K, an allocation has K times the size
    #[arg(long)]
    fused: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Runtime {
    /// The runtime; auto takes the first that works and says which
    #[arg(long, value_enum, default_value_t = BackendChoice::Auto)]
    backend: BackendChoice,
    /// Which of its devices, as `bench --list` numbers them
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,
    /// Through what the work goes
    #[arg(long, value_enum, default_value_t)]
    via: Via,
    /// How threads wait for the device
    #[arg(long, value_enum, default_value_t)]
    wait: Wait,
    /// Do the same in N processes at once, each with the runtime for itself; the first one reports
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: u32,
    /// Bytes that the runtime's own pool (`--memory async-pool`) keeps at a wait; max keeps all
    #[arg(long, value_name = "SIZE", value_parser = threshold)]
    pool_threshold: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Dispatch {
    /// Record the batch once and launch it as a graph
    #[arg(long)]
    graph: bool,
    /// Take turns on N streams
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = streams)]
    streams: usize,
    /// How long a kernel takes at least, in microseconds of the device's clock
    #[arg(long, value_name = "D", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    duration_us: u32,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CpuOptions {
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    repetition: Repetition,
    #[command(flatten)]
    batch: Batch,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AllocOptions {
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    repetition: Repetition,
    #[command(flatten)]
    batch: Batch,
    #[command(flatten)]
    runtime: Runtime,
    /// What kind of memory
    #[arg(long, value_enum, default_value_t = Memory::Device)]
    memory: Memory,
    /// Whether the runtime allocates every time, or a pool of `bench`'s own keeps the buffers
    #[arg(long, value_enum, default_value_t = Lifetime::PerIter)]
    lifetime: Lifetime,
    /// Keep a buffer for N iterations before it is freed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    free_every: u64,
    /// Wait after every N iterations; 0 waits at the end (alone, only memory of `async-pool` needs it)
    #[arg(long, value_name = "N", default_value_t = 0)]
    sync_every: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KernelOptions {
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    repetition: Repetition,
    #[command(flatten)]
    batch: Batch,
    #[command(flatten)]
    runtime: Runtime,
    #[command(flatten)]
    dispatch: Dispatch,
    /// What kind of memory the array is in
    #[arg(long, value_enum, default_value_t = Memory::Device)]
    memory: Memory,
    /// How long the array lives
    #[arg(long, value_enum, default_value_t = Lifetime::Once)]
    lifetime: Lifetime,
    /// Wait after every N iterations; 0 waits at the end
    #[arg(long, value_name = "N", default_value_t = 1)]
    sync_every: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CopyOptions {
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    repetition: Repetition,
    #[command(flatten)]
    batch: Batch,
    #[command(flatten)]
    runtime: Runtime,
    /// What kind of memory of the host: pageable or pinned
    #[arg(long, value_enum, default_value_t = Memory::Pageable)]
    memory: Memory,
    /// Which way
    #[arg(long, value_enum, default_value_t)]
    direction: Direction,
    /// Take turns on N streams
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = streams)]
    streams: usize,
    /// Wait after every N iterations; 0 waits at the end
    #[arg(long, value_name = "N", default_value_t = 1)]
    sync_every: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SyncOptions {
    #[command(flatten)]
    repetition: Repetition,
    #[command(flatten)]
    runtime: Runtime,
    /// How long a kernel takes at least, in microseconds of the device's clock
    #[arg(long, value_name = "D", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    duration_us: u32,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LaunchOptions {
    #[command(flatten)]
    repetition: Repetition,
    #[command(flatten)]
    batch: Batch,
    #[command(flatten)]
    runtime: Runtime,
    #[command(flatten)]
    dispatch: Dispatch,
    /// Wait after every N iterations; 0 waits at the end
    #[arg(long, value_name = "N", default_value_t = 0)]
    sync_every: u64,
}

/// What `bench api` measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApiOptions {
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    repetition: Repetition,
    #[command(flatten)]
    runtime: Runtime,
}

/// What `bench infer` runs.
#[cfg(feature = "infer")]
#[derive(Clone, Debug, Args)]
pub(crate) struct InferOptions {
    /// Which model
    #[arg(long, value_enum)]
    model: crate::infer::ModelChoice,
    /// Who executes it
    #[arg(long, value_enum, default_value_t = crate::infer::Provider::Cpu)]
    backend: crate::infer::Provider,
    /// Sentences or images of one inference
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = batch)]
    batch: usize,
    /// Threads of the runtime's pool; 0 leaves the number to the runtime
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = threads)]
    threads: usize,
    #[command(flatten)]
    repetition: Repetition,
}

/// The execution stacks, in the order in which `auto` tries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendChoice {
    /// The first of a GPU that works
    Auto,
    /// NVIDIA's driver API
    Cuda,
    /// AMD's runtime
    Hip,
    /// AMD's header-only HIP on the CPU, through the library of `cargo xtask hip-cpu`
    HipCpu,
    /// Any OpenCL platform
    Opencl,
    /// Vulkan on Linux
    Vulkan,
    /// Metal on macOS
    Metal,
    /// No runtime: memory is `mmap`, a kernel is a loop, so that every system call is known beforehand
    Host,
}

/// What `bench` is asked, without clap.
pub(crate) struct Request {
    pub(crate) task: Task,
    pub(crate) json: bool,
}

/// What is measured.
pub(crate) enum Task {
    /// The loop on the CPU.
    Cpu(Workload),
    /// A model on a backend.
    Model(Workload, BackendChoice),
    /// Each call of a backend alone.
    Api(Workload, BackendChoice),
    /// A real model on ONNX Runtime.
    #[cfg(feature = "infer")]
    Infer(crate::infer::Inference),
    /// What this build does not have.
    #[cfg(not(feature = "infer"))]
    NotBuiltIn,
}

impl Task {
    /// Whether what comes before the warm-up is called `init`; of a real model it is `load`.
    pub(crate) fn begins_with_init(&self) -> bool {
        match self {
            Self::Cpu(_) | Self::Model(..) | Self::Api(..) => true,
            #[cfg(feature = "infer")]
            Self::Infer(_) => false,
            #[cfg(not(feature = "infer"))]
            Self::NotBuiltIn => false,
        }
    }
}

impl Runtime {
    fn setup(&self, streams: usize) -> Setup {
        let Self { device, wait, processes, pool_threshold, .. } = *self;
        Setup { device, wait, streams, processes, pool_threshold }
    }
}

impl Repetition {
    fn workload(&self, model: Model, bytes: usize) -> Workload {
        Workload::new(model, bytes, self.iters, self.warmup)
    }
}

/// The array of `sync` and `launch`: one word.
const WORD: usize = 4;

impl Batch {
    /// The workload with as much work in an iteration.
    fn of(&self, workload: Workload) -> Workload {
        Workload { batch: self.batch, fused: self.fused, ..workload }
    }
}

impl CpuOptions {
    fn workload(&self) -> Workload {
        self.batch.of(self.repetition.workload(Model::Cpu, self.size.bytes))
    }
}

impl AllocOptions {
    fn workload(&self) -> Workload {
        self.batch.of(Workload {
            memory: self.memory,
            lifetime: self.lifetime,
            free_every: self.free_every,
            sync_every: self.sync_every,
            setup: self.runtime.setup(1),
            ..self.repetition.workload(Model::Alloc, self.size.bytes)
        })
    }
}

impl KernelOptions {
    fn workload(&self) -> Workload {
        self.batch.of(Workload {
            memory: self.memory,
            lifetime: self.lifetime,
            sync_every: self.sync_every,
            graph: self.dispatch.graph,
            duration_us: self.dispatch.duration_us,
            setup: self.runtime.setup(self.dispatch.streams),
            ..self.repetition.workload(Model::Kernel, self.size.bytes)
        })
    }
}

impl CopyOptions {
    fn workload(&self) -> Workload {
        self.batch.of(Workload {
            memory: self.memory,
            direction: self.direction,
            sync_every: self.sync_every,
            setup: self.runtime.setup(self.streams),
            ..self.repetition.workload(Model::Copy, self.size.bytes)
        })
    }
}

impl SyncOptions {
    fn workload(&self) -> Workload {
        Workload {
            duration_us: self.duration_us,
            setup: self.runtime.setup(1),
            ..self.repetition.workload(Model::Sync, WORD)
        }
    }
}

impl LaunchOptions {
    fn workload(&self) -> Workload {
        self.batch.of(Workload {
            sync_every: self.sync_every,
            graph: self.dispatch.graph,
            duration_us: self.dispatch.duration_us,
            setup: self.runtime.setup(self.dispatch.streams),
            ..self.repetition.workload(Model::Launch, WORD)
        })
    }
}

impl ApiOptions {
    fn workload(&self) -> Workload {
        Workload { setup: self.runtime.setup(1), ..self.repetition.workload(Model::Kernel, self.size.bytes) }
    }
}

#[cfg(feature = "infer")]
impl InferOptions {
    fn workload(&self) -> crate::infer::Inference {
        crate::infer::Inference {
            model: self.model,
            provider: self.backend,
            batch: self.batch,
            iters: self.repetition.iters,
            warmup: self.repetition.warmup,
            threads: self.threads,
        }
    }
}

impl Request {
    /// Number of processes that do it at once.
    pub(crate) fn processes(&self) -> u32 {
        match &self.task {
            Task::Model(workload, _) | Task::Api(workload, _) => workload.setup.processes,
            Task::Cpu(_) => 1,
            #[cfg(feature = "infer")]
            Task::Infer(_) => 1,
            #[cfg(not(feature = "infer"))]
            Task::NotBuiltIn => 1,
        }
    }
}

impl Command {
    pub(crate) fn request(&self) -> Request {
        let of_model = |workload, runtime: &Runtime| Task::Model(runtime.via.applied(workload), runtime.backend);
        let (task, json) = match self {
            Self::Cpu(options) => (Task::Cpu(options.workload()), options.repetition.json),
            Self::Alloc(options) => (of_model(options.workload(), &options.runtime), options.repetition.json),
            Self::Kernel(options) => (of_model(options.workload(), &options.runtime), options.repetition.json),
            Self::Copy(options) => (of_model(options.workload(), &options.runtime), options.repetition.json),
            Self::Sync(options) => (of_model(options.workload(), &options.runtime), options.repetition.json),
            Self::Launch(options) => (of_model(options.workload(), &options.runtime), options.repetition.json),
            Self::Api(options) => (
                Task::Api(options.runtime.via.applied(options.workload()), options.runtime.backend),
                options.repetition.json,
            ),
            #[cfg(not(feature = "infer"))]
            Self::Infer { .. } => (Task::NotBuiltIn, false),
            #[cfg(feature = "infer")]
            Self::Infer(options) => (Task::Infer(options.workload()), options.repetition.json),
        };
        Request { task, json }
    }
}

fn size(text: &str) -> Result<usize, String> {
    // `64M` means what it means to `dd` and `fio`; `64MB` and `64MiB` are what their authors say.
    let bytes = parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; write a size such as 4096, 64K, 1M or 2GiB"))?;
    usize::try_from(bytes).map_err(|_| "more than this machine can address".to_owned())
}

fn threshold(text: &str) -> Result<u64, String> {
    if text == "max" { Ok(u64::MAX) } else { size(text).map(|bytes| bytes as u64) }
}

#[cfg(feature = "infer")]
fn batch(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(batch @ 1..=4096) => Ok(batch),
        _ => Err("write a number from 1 to 4096".to_owned()),
    }
}

#[cfg(feature = "infer")]
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 0..=1024) => Ok(threads),
        _ => Err("write a number from 0 to 1024".to_owned()),
    }
}

fn streams(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(streams @ 1..=64) => Ok(streams),
        _ => Err("write a number from 1 to 64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(size("0").unwrap(), 0);
        assert_eq!(size("4096").unwrap(), 4096);
        assert_eq!(size("64K").unwrap(), 65_536);
        assert_eq!(size("1M").unwrap(), 1 << 20);
        assert_eq!(size("2GiB").unwrap(), 2 << 30);
        assert!(size("-1").is_err() && size("many").is_err() && size("").is_err());
        assert!(size("99999999999G").is_err());
    }

    #[test]
    fn what_a_model_cannot_use_is_no_option_of_it() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("bench launch --bytes 1").is_err());
        assert!(parse("bench cpu --backend host").is_err());
        assert!(parse("bench kernel --streams 0").is_err());
        assert!(parse("bench kernel --batch 0").is_err());
        assert!(parse("bench alloc --free-every 0").is_err() && parse("bench alloc --processes 0").is_err());
        assert_eq!([threshold("max"), threshold("1M")], [Ok(u64::MAX), Ok(1 << 20)]);
        assert!(parse("bench --json").is_err());
        assert!(parse("bench --list kernel").is_err());
    }
}
