//! The end of a trace: the header, the notes, the file, the tables.

use anyhow::{Result, anyhow};
use gpuos_decode::{devices::DeviceKind, driver_rules, ioctls, syscalls};
use gpuos_host::{diagnostics, environment};
use gpuos_model::{machine::Clocks, units};
use gpuos_runs::{
    frame,
    phases::Scope,
    run::{DriverFunction, End, Header, Mode, Run},
};
use gpuos_tracer_abi::{hooks::HookCounts, syscalls::ABI_NATIVE};

use super::options::{Backend, TraceOptions};
use crate::{
    aggregate::Totals,
    output::{
        OutputError,
        layout::{self, Order, View},
        summary,
    },
    probe::DriverHook,
};

/// What a trace came to.
pub(super) struct Facts {
    pub(super) command: Vec<String>,
    pub(super) wait_all: bool,
    pub(super) backend: Backend,
    /// A command was launched, whose tree `--wait-all` would wait for.
    pub(super) can_wait_for_tree: bool,
    pub(super) started: String,
    pub(super) wall_ns: u64,
    pub(super) clocks: Clocks,
    pub(super) end: End,
    pub(super) totals: Totals,
    /// Ranges of NVTX or roctx were to be phases.
    pub(super) wants_ranges: bool,
    /// Why the kernel's structures were not read, where they were not.
    pub(super) without_btf: Option<String>,
    /// What is in the `--roles` file of a recording.
    pub(super) roles_text: String,
}

/// Writes the file, then prints the tables: nobody listening must not cost the file.
pub(super) fn publish(options: &mut TraceOptions, run: &Run) -> Result<()> {
    let written = options.destination.take().map(|destination| {
        let name = destination.name().to_owned();
        destination
            .write(run)
            .map(|()| format!("wrote {} to {name}", units::plural(run.calls.height() as u64, "row", "rows")))
    });
    // Counts that are in no file are shown, whatever was asked for.
    let is_lost = matches!(written, Some(Err(OutputError::WriteFailed { is_kept: false, .. })));
    if let Some(view) = options.view.or_else(|| is_lost.then_some(View { top: usize::MAX, order: Order::Calls })) {
        let stderr = std::io::stderr();
        let style = layout::style_of(&stderr, anstream::AutoStream::choice(&stderr));
        // A class without a process must not cost the tables.
        let chosen = match summary::shown(run.clone(), &options.job_classes) {
            Ok(chosen) => chosen,
            Err(error) => {
                diagnostics::report(&error.to_string());
                run.clone()
            }
        };
        let text = summary::render(&chosen, view, style).map_err(|error| anyhow!(error))?;
        diagnostics::print(&format!("\n{text}"));
    }
    if options.says_notes && !is_lost {
        let news = summary::news(&run.header);
        if !news.is_empty() {
            diagnostics::print(&format!("{news}\n"));
        }
    }
    if let Some(message) = written.transpose()?
        && options.view.is_some()
    {
        diagnostics::print(&format!("\n{message}\n"));
    }
    Ok(())
}

/// What is said where phases were inferred.
const INFERRED_PHASES: &str = "phases are inferred, not marked: set-up from a process's first call on a GPU device until 50 ms after it last made a queue, teardown from the first queue or device that it closes";

/// What is said of numbers in a container.
const IN_NAMESPACE: &str = "process numbers are those of the initial pid namespace, not of this container";

/// What is said of times by ptrace.
const BY_PTRACE: &str = "traced by ptrace: every thread stopped twice for each call, so times are longer than they are without, those of short calls several times";

/// What is said where ranges were wanted and none came.
const NO_RANGES: &str = "no NVTX or roctx range was seen: the program opened none, or took no library (static and setuid programs; with `--roctx` those that load roctx by dlopen)";

/// What is said where the kernel shows no type information.
const NO_BTF: &str = "fallback: this kernel shows no type information, so devices are known by the paths that were opened, `not known` where that does not say (inherited, received over a socket, and more); what processes used and which signals ended them is not known either";

/// A run with its header.
pub(super) fn run(options: &TraceOptions, facts: Facts) -> Result<Run> {
    let totals = facts.totals;
    let calls = frame::build(&totals.rows, &totals.processes, &totals.phases, &options.roles, &totals.devices)?;
    let mut notes = notes(&totals, facts.can_wait_for_tree);
    if facts.backend == Backend::Ptrace {
        notes.retain(|note| note != IN_NAMESPACE);
        notes.push(BY_PTRACE.to_owned());
    }
    if !options.settings.functions.is_empty()
        && !totals.phases.iter().any(|phase| phase.scope == Scope::Function && phase.entered != 0)
    {
        notes.push(format!(
            "none of the {} watched functions was called: the program may carry a library of its own",
            options.settings.functions.len()
        ));
    }
    if facts.wants_ranges && totals.markers == 0 {
        notes.push(NO_RANGES.to_owned());
    }
    if let Some(reason) = &facts.without_btf {
        notes.push(format!("{NO_BTF} ({reason})"));
    }
    if options.settings.infer_phases {
        notes.push(INFERRED_PHASES.to_owned());
    }
    let header = Header {
        command: facts.command,
        mode: Mode {
            timed: options.settings.timed,
            sample: options.settings.sample,
            per_thread: options.settings.per_thread,
            backend: facts.backend.name().to_owned(),
            wait_all: facts.wait_all,
            filter: options.filter.clone(),
            roles: options.roles_file.clone(),
            auto_phases: options.settings.infer_phases,
            roles_text: facts.roles_text,
        },
        started: facts.started,
        wall_ns: facts.wall_ns,
        clocks: facts.clocks,
        host: environment::host(),
        nvidia_driver: totals.devices.nvidia_version.as_ref().map(ToString::to_string),
        devices: options.settings.recording.map(|_| totals.devices.clone()),
        user: environment::user(),
        end: facts.end,
        losses: totals.losses,
        notes,
        driver_functions: driver_functions(options, &totals.hooks),
        phases: totals.phases,
        jobs: totals.jobs,
        processes: totals.processes,
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
fn notes(totals: &Totals, can_wait_for_tree: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let calls = |wanted: &dyn Fn(&str, u32) -> bool| -> u64 {
        totals
            .rows
            .iter()
            .filter(|(key, _)| {
                wanted(
                    syscalls::by_number(key.number).filter(|_| key.abi == ABI_NATIVE).map_or("", |call| call.name),
                    key.abi,
                )
            })
            .map(|(_, counts)| counts.calls)
            .sum()
    };
    let rings = calls(&|name, _| name == "io_uring_setup") + totals.rings_filtered;
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
    if totals.compat_calls_filtered != 0 {
        notes.push(format!(
            "{} left out: `-e` cannot name them",
            units::plural(totals.compat_calls_filtered, "32-bit call was", "32-bit calls were")
        ));
    }
    if totals.slow_calls != 0 {
        notes.push(format!(
            "{} counted on the slower path: no row was free (`--rows` adds more) or a thread made more than 256 different calls or device commands",
            units::plural(totals.slow_calls, "call was", "calls were")
        ));
    }
    if totals.unreadable_arguments != 0 {
        notes.push(format!(
            "{} failed: a bad address, or memory that was not there",
            units::plural(
                totals.unreadable_arguments,
                "read of a device call's argument",
                "reads of device calls' arguments"
            )
        ));
    }
    if totals.markers_without_meaning != 0 {
        notes.push(format!(
            "{} of the program said nothing: the end of a phase that never began, or an unknown operation",
            units::plural(totals.markers_without_meaning, "phase marker", "phase markers")
        ));
    }
    if totals.markers != 0 {
        notes.push(format!(
            "{} of the program left out of the counts",
            units::plural(totals.markers, "phase marker", "phase markers")
        ));
    }
    notes.extend(launches_without_calls(totals));
    notes.extend(unknown_version(totals));
    if totals.threads_running != 0 {
        let threads = units::plural(totals.threads_running, "thread", "threads");
        let advice = if can_wait_for_tree { "; `--wait-all` waits for them" } else { "" };
        notes.push(format!("{threads} of the tree still ran at the end{advice}"));
    }
    if environment::in_pid_namespace() {
        notes.push(IN_NAMESPACE.to_owned());
    }
    notes
}

/// Layouts of a version of NVIDIA's driver that nobody has read are those of the nearest one.
fn unknown_version(totals: &Totals) -> Option<String> {
    let devices = &totals.devices;
    let is_used =
        totals.rows.keys().any(|key| matches!(devices.kind(key.device), DeviceKind::Nvidia | DeviceKind::NvidiaUvm));
    let outside = driver_rules::outside(devices.nvidia_version.as_ref())?;
    is_used.then_some(outside)
}

/// Launches that make no system call must not be taken for launches that did not happen.
fn launches_without_calls(totals: &Totals) -> Option<String> {
    let devices = &totals.devices;
    let ioctls =
        || totals.rows.keys().filter(|key| syscalls::by_number(key.number).is_some_and(|call| call.name == "ioctl"));
    let has_runtime = ioctls().any(|key| matches!(devices.kind(key.device), DeviceKind::Nvidia | DeviceKind::Kfd));
    let submits = ioctls().any(|key| {
        ioctls::decode(devices, key.device, key.command, key.detail).is_some_and(|call| call.purpose == "submit")
    });
    (has_runtime && !submits).then(|| {
        "no ioctl hands work to a GPU (those of role submission set queues up): CUDA and ROCm launch kernels through \
         queues in user memory and a doorbell, without a system call, so launches are not among these counts"
            .to_owned()
    })
}
