//! The columns of the table: name, type and what they say. Whoever builds, writes or describes the table reads this list.

/// Version of the table, in the metadata of each file. Raised when a query must change.
pub const SCHEMA_VERSION: u32 = 1;
/// The key of the metadata that says so.
pub const METADATA: &str = "gpuos-fleet";

/// What a row is about. A number is in rows of one kind, but for what threads used, which is in those of classes of jobs, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// System calls that are alike in phase, class of jobs, role and name.
    Calls,
    /// A phase.
    Phase,
    /// A class of jobs.
    Jobs,
    /// All processes together.
    Use,
}

impl Kind {
    /// As in the column `row`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Phase => "phase",
            Self::Jobs => "jobs",
            Self::Use => "use",
        }
    }
}

macro_rules! columns {
    ($enumeration:ident, $what:literal; $($name:ident, $text:literal, $doc:literal;)*) => {
        #[doc = $what]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $enumeration {
            $(#[doc = $doc] $name,)*
        }

        impl $enumeration {
            /// All of them, in their order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The column.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it says.
            #[must_use]
            pub const fn says(self) -> &'static str {
                match self { $(Self::$name => $doc,)* }
            }
        }
    };
}

columns! {
    Text, "Columns of words; null where there is none.";
    Row, "row", "what the row is about: `calls`, `phase`, `jobs` or `use`";
    Tool, "tool", "version of gpuos-trace";
    Kernel, "kernel", "`uname -r`";
    Driver, "driver", "version of NVIDIA's driver";
    User, "user", "who ran the program";
    Workload, "workload", "the program, without its folder and arguments; of processes that were attached to their name, where all have the same";
    Namespace, "namespace", "Kubernetes namespace";
    Pod, "pod", "Kubernetes pod";
    Container, "container", "its container";
    Job, "job", "number of the batch system's job, such as Slurm's";
    Phase, "phase", "phase, as the program marked it";
    JobClass, "job_class", "class of jobs of `libgpuos_job`";
    Role, "role", "role of the call";
    Category, "category", "kind of kernel service";
    Syscall, "syscall", "system call";
    Device, "device", "device node, of calls on devices";
    Call, "call", "the driver's command";
    Detail, "detail", "control command or class, of commands that have one";
}

columns! {
    Number, "Columns of numbers (64 bits, signed); null in rows of another kind.";
    Calls, "calls", "`calls`: entries";
    Errors, "errors", "`calls`: returns with an error";
    Refused, "refused", "`calls`: returns without an error after which the driver's own status told of one";
    Restarted, "restarted", "`calls`: returns because of a signal";
    Unfinished, "unfinished", "`calls`: entries without a return";
    DriverCalls, "driver_calls", "`calls`: calls that reached a watched function of the driver";
    DriverNs, "driver_ns", "`calls`: nanoseconds in it";
    TotalNs, "total_ns", "`calls`: nanoseconds inside, finished calls that were timed";
    MaxNs, "max_ns", "`calls`: the longest";
    Units, "units", "`phase`: units of work (iterations) that the program reported";
    Entered, "entered", "`phase`: how often it began";
    PhaseNs, "phase_ns", "`phase`: nanoseconds in it, phases inside left out, summed over processes";
    Begun, "begun", "`jobs`: jobs that began";
    Done, "done", "`jobs`: jobs whose work was done";
    Failed, "failed", "`jobs`: jobs that failed or were cancelled";
    DurationP50, "duration_p50_ns", "`jobs`: half of them took no longer, to 13 %";
    DurationP99, "duration_p99_ns", "`jobs`: 99 of 100 took no longer";
    LatenessP50, "lateness_p50_ns", "`jobs`: how much later than its end a job's end was known";
    LatenessP99, "lateness_p99_ns", "`jobs`: the same, 99 of 100";
    Bytes, "bytes", "`jobs`: the most memory that jobs of one process had at once";
    CpuNs, "cpu_ns", "`use` and `jobs`: time on a CPU (rows of `jobs` are parts of that of `use`)";
    VoluntarySwitches, "voluntary_switches", "`use` and `jobs`: context switches because a thread had to wait";
    InvoluntarySwitches, "involuntary_switches", "`use` and `jobs`: because another thread was to run";
    MinorFaults, "minor_faults", "`use` and `jobs`: page faults served from memory";
    MajorFaults, "major_faults", "`use` and `jobs`: page faults that waited for a device";
    Processes, "processes", "`use`: processes";
    Lost, "lost", "`use`: what the tracer could not count; 0 where the numbers are whole";
}

/// Beginning of the interval, UTC, microseconds.
pub const START: &str = "start";
/// When the machine was started, UTC, microseconds: one value for each boot, to a few milliseconds.
pub const BOOTED: &str = "booted";
/// Length of the interval, 64-bit floating point.
pub const SECONDS: &str = "seconds";
/// `calls`: durations by power of two: place b counts those of 2^b to 2^(b+1) − 1 ns; zeros at the end are left out.
pub const LATENCY: &str = "latency_log2";
