//! What `run` and `attach` share at their end: the header, the notes, the file, the tables.

use anyhow::{Result, anyhow};
use gpuos_tracer_abi::{hooks::HookCounts, syscalls::ABI_NATIVE};

use crate::{
    bpf::DriverHook,
    collect::{self, Finished},
    model::{
        frame,
        phases::Scope,
        run::{Clocks, DriverFunction, End, Header, Mode, Run},
    },
    names::{self, devices::Kind, ioctls, nvidia_rules},
    options::TraceOptions,
    sink::{table, units},
    talk,
};

/// Why `--strict` fails.
pub(super) const STRICT: &str =
    "events were lost, and `--strict` was given\nhint: the tables and the file say what was lost and how to avoid it";

/// What a trace came to.
pub(super) struct Findings {
    pub(super) command: Vec<String>,
    pub(super) wait_all: bool,
    pub(super) started: String,
    pub(super) wall_ns: u64,
    pub(super) clocks: Clocks,
    pub(super) end: End,
    pub(super) finished: Finished,
    /// Ranges of NVTX or roctx were to be phases.
    pub(super) wants_ranges: bool,
    /// Why the kernel's structures were not read, where they were not.
    pub(super) without_types: Option<String>,
    /// What is in the `--roles` file of a recording.
    pub(super) roles_text: String,
}

/// The first failure of steps that were all taken, whatever came of the others; the rest is said here.
pub(super) fn first_failure(steps: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mut failures = steps.into_iter().filter_map(Result::err);
    let first = failures.next();
    failures.for_each(|failure| talk::say(&format!("{failure:#}")));
    first.map_or(Ok(()), Err)
}

/// Writes the file, then prints the tables: nobody listening must not cost the file.
pub(super) fn publish(options: &mut TraceOptions, run: &Run) -> Result<()> {
    let written = options.destination.take().map(|destination| {
        let name = destination.name().to_owned();
        destination
            .write(run)
            .map(|()| format!("wrote {} to {name}", units::plural(run.calls.height() as u64, "row", "rows")))
    });
    if let Some(view) = options.view {
        let stderr = std::io::stderr();
        let look = super::look_of(&stderr, anstream::AutoStream::choice(&stderr));
        let text = table::render(run, view, look).map_err(|error| anyhow!(error))?;
        talk::print(&format!("\n{text}"));
    }
    if let Some(message) = written.transpose()?
        && options.view.is_some()
    {
        talk::print(&format!("\n{message}\n"));
    }
    Ok(())
}

/// What is said where phases were inferred.
const INFERRED_PHASES: &str = "phases are inferred, not marked: set-up from a process's first call on a GPU device until 50 ms after it last made a queue, teardown from the first queue or device that it closes";

/// What is said where ranges were wanted and none came.
const NO_RANGES: &str = "no NVTX or roctx range was seen: the program opened none, or took no library (static and setuid programs; with `--roctx` those that load roctx by dlopen)";

/// What is said where the kernel shows no type information.
const WITHOUT_TYPES: &str = "fallback: this kernel shows no type information, so devices are known by the paths that were opened, `not known` where that does not say (inherited, received over a socket, and more); what processes used and which signals ended them is not known either";

/// A run with its header.
pub(super) fn assemble(options: &TraceOptions, findings: Findings) -> Result<Run> {
    let finished = findings.finished;
    let calls = frame::build(&finished.rows, &finished.processes, &finished.phases, &options.roles, &finished.devices)?;
    let mut notes = notes(&finished);
    if !options.settings.functions.is_empty()
        && !finished.phases.iter().any(|phase| phase.scope == Scope::Function && phase.entered != 0)
    {
        notes.push(format!(
            "none of the {} watched functions was called: the program may carry a library of its own",
            options.settings.functions.len()
        ));
    }
    if findings.wants_ranges && finished.markers == 0 {
        notes.push(NO_RANGES.to_owned());
    }
    if let Some(reason) = &findings.without_types {
        notes.push(format!("{WITHOUT_TYPES} ({reason})"));
    }
    if options.settings.infer_phases {
        notes.push(INFERRED_PHASES.to_owned());
    }
    let header = Header {
        command: findings.command,
        mode: Mode {
            timed: options.settings.timed,
            sample: options.settings.sample,
            per_thread: options.settings.per_thread,
            wait_all: findings.wait_all,
            filter: options.filter.clone(),
            roles: options.roles_file.clone(),
            auto_phases: options.settings.infer_phases,
            roles_text: findings.roles_text,
        },
        started: findings.started,
        wall_ns: findings.wall_ns,
        clocks: findings.clocks,
        host: collect::host(),
        nvidia_driver: finished.devices.nvidia_version.as_ref().map(ToString::to_string),
        devices: options.settings.recording.map(|_| finished.devices.clone()),
        user: collect::user(),
        end: findings.end,
        losses: finished.losses,
        notes,
        driver_functions: driver_functions(options, &finished.hooks),
        phases: finished.phases,
        processes: finished.processes,
        ..Header::default()
    };
    Ok(Run { header, calls })
}

/// The watched functions and what was counted there.
fn driver_functions(options: &TraceOptions, counts: &[HookCounts]) -> Vec<DriverFunction> {
    let function = |hook: &DriverHook| {
        let counts = counts.get(hook.index).copied().unwrap_or_default();
        DriverFunction {
            name: hook.function.to_owned(),
            calls: counts.calls,
            returns: counts.returns,
            outside: counts.outside,
            total_ns: counts.total_ns,
        }
    };
    options.settings.hooks.iter().map(function).collect()
}

/// What the tables cannot say by themselves.
fn notes(finished: &Finished) -> Vec<String> {
    let mut notes = Vec::new();
    let calls = |wanted: &dyn Fn(&str, u32) -> bool| -> u64 {
        finished
            .rows
            .iter()
            .filter(|(key, _)| {
                wanted(
                    names::by_number(key.number).filter(|_| key.abi == ABI_NATIVE).map_or("", |call| call.name),
                    key.abi,
                )
            })
            .map(|(_, counts)| counts.calls)
            .sum()
    };
    let rings = calls(&|name, _| name == "io_uring_setup") + finished.rings_filtered;
    if rings != 0 {
        notes.push(format!(
            "{} set up: what is submitted through a ring makes no system call and is not counted",
            units::plural(rings, "io_uring was", "io_urings were")
        ));
    }
    let compat = calls(&|_, abi| abi != ABI_NATIVE);
    if compat != 0 {
        notes.push(format!(
            "{} through the 32-bit entry, shown by number: the numbers are those of the 32-bit table",
            units::plural(compat, "call came", "calls came")
        ));
    }
    if finished.compat_calls_filtered != 0 {
        notes.push(format!(
            "{} left out: `-e` cannot name them",
            units::plural(finished.compat_calls_filtered, "32-bit call was", "32-bit calls were")
        ));
    }
    if finished.slow_calls != 0 {
        notes.push(format!(
            "{} counted on the slower path: no row was free (`--rows` adds more) or a thread made more than 256 different calls or device commands",
            units::plural(finished.slow_calls, "call was", "calls were")
        ));
    }
    if finished.unreadable_arguments != 0 {
        notes.push(format!(
            "{} failed: a bad address, or memory that was not there",
            units::plural(
                finished.unreadable_arguments,
                "read of a device call's argument",
                "reads of device calls' arguments"
            )
        ));
    }
    if finished.markers_without_meaning != 0 {
        notes.push(format!(
            "{} of the program said nothing: the end of a phase that never began, or an unknown operation",
            units::plural(finished.markers_without_meaning, "phase marker", "phase markers")
        ));
    }
    if finished.markers != 0 {
        notes.push(format!(
            "{} of the program left out of the counts",
            units::plural(finished.markers, "phase marker", "phase markers")
        ));
    }
    notes.extend(launches_without_calls(finished));
    notes.extend(unknown_version(finished));
    if finished.threads_running != 0 {
        let threads = units::plural(finished.threads_running, "thread", "threads");
        let advice = finished.waits_for_tree.map_or_else(String::new, |advice| format!("; {advice}"));
        notes.push(format!("{threads} of the tree still ran at the end{advice}"));
    }
    if collect::in_pid_namespace() {
        notes.push("process numbers are those of the initial pid namespace, not of this container".to_owned());
    }
    notes
}

/// Layouts of a version of NVIDIA's driver that nobody has read are those of the nearest one.
fn unknown_version(finished: &Finished) -> Option<String> {
    let devices = &finished.devices;
    let is_used = finished.rows.keys().any(|key| matches!(devices.kind(key.device), Kind::Nvidia | Kind::NvidiaUvm));
    let outside = nvidia_rules::outside(devices.nvidia_version.as_ref())?;
    is_used.then_some(outside)
}

/// Launches that make no system call must not be taken for launches that did not happen.
fn launches_without_calls(finished: &Finished) -> Option<String> {
    let devices = &finished.devices;
    let ioctls =
        || finished.rows.keys().filter(|key| names::by_number(key.number).is_some_and(|call| call.name == "ioctl"));
    let has_runtime = ioctls().any(|key| matches!(devices.kind(key.device), Kind::Nvidia | Kind::Kfd));
    let submits = ioctls().any(|key| {
        ioctls::decode(devices, key.device, key.command, key.detail).is_some_and(|call| call.purpose == "submit")
    });
    (has_runtime && !submits).then(|| {
        "no ioctl hands work to a GPU (those of role submission set queues up): CUDA and ROCm launch kernels through \
         queues in user memory and a doorbell, without a system call, so launches are not among these counts"
            .to_owned()
    })
}
