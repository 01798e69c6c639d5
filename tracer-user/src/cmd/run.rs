//! `gpuos-trace run -- CMD`: launch, count, and say what was counted.
//!
//! Order: check the options, try the output, find the command, fork it suspended, load and attach,
//! arm, release, wait, detach, read the counts, write the file, print the tables. Detaching comes
//! before the last reading, so that nothing moves while it is read.

use anyhow::{Context as _, Result, anyhow};
use gpuos_tracer_abi::{ABI_VERSION, syscalls::ABI_NATIVE};

use crate::{
    bpf::Tracer,
    cli::RunArgs,
    collect::{self, Finished, Gathered, Stopped},
    launch::{Command, Suspended},
    model::{
        frame,
        run::{Clocks, End, Header, Mode, Run, SCHEMA_VERSION},
    },
    names,
    options::RunOptions,
    signals::{Ended, Signals, end_like},
    sink::{table, units},
    talk,
};

pub(super) fn run(args: RunArgs) -> Result<()> {
    let mut options = RunOptions::from_args(args)?;
    let command = Command::find(&options.command)?;
    let suspended = Suspended::spawn(&command)?;
    let (ended, run) = trace(&options, suspended)?;

    let written = options.destination.take().map(|destination| {
        let name = destination.name().to_owned();
        destination
            .write(&run)
            .map(|()| format!("wrote {} to {name}", units::plural(run.calls.height() as u64, "row", "rows")))
    });
    if let Some(view) = options.view {
        let stderr = std::io::stderr();
        let look = super::look_of(&stderr, anstream::AutoStream::choice(&stderr));
        let text = table::render(&run, view, look).map_err(|error| anyhow!(error))?;
        talk::print(&format!("\n{text}"));
    }
    if let Some(message) = written.transpose()?
        && options.view.is_some()
    {
        talk::print(&format!("\n{message}\n"));
    }
    end_like(ended)
}

/// From the suspended child to a run.
fn trace(options: &RunOptions, suspended: Suspended) -> Result<(Ended, Run)> {
    let tracer = Tracer::start(&options.settings)?;
    tracer.arm(suspended.pidfd())?;
    let counters = tracer.counters()?;
    let signals = Signals::take().context("cannot take signals over")?;
    let started = jiff::Timestamp::now();
    let clocks = collect::clocks();
    let running = suspended.release()?;
    let mut gathered = Gathered::default();
    let (stopped, signals) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(collect::until_end(running, signals, options.wait_all, &counters, &mut gathered))
        .context("cannot wait for the command")?;
    let wall_ns = collect::clocks().monotonic_ns - clocks.monotonic_ns;
    let recursion_misses = tracer.detach(gathered.tree_is_empty(&counters))?;
    let mut finished = gathered.finish(&counters).context("cannot read the counts")?;
    finished.losses.recursion_misses = recursion_misses;
    if let [command] = finished.processes.as_mut_slice() {
        command.set_usage(stopped.usage);
    }
    // From here on the tracer can be interrupted as any program.
    drop(signals);
    let run = assemble(options, stopped, started.to_string(), wall_ns, clocks, finished)?;
    Ok((stopped.ended, run))
}

fn assemble(
    options: &RunOptions,
    stopped: Stopped,
    started: String,
    wall_ns: u64,
    clocks: Clocks,
    finished: Finished,
) -> Result<Run> {
    let calls = frame::build(&finished.rows, &finished.processes, &[], &options.roles)?;
    let notes = notes(&finished);
    let header = Header {
        schema_version: SCHEMA_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        abi_version: ABI_VERSION,
        command: options.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        mode: Mode {
            timed: options.settings.timed,
            per_thread: options.settings.per_thread,
            wait_all: options.wait_all,
            filter: options.filter.clone(),
            roles: options.roles_file.clone(),
        },
        started,
        wall_ns,
        clocks,
        host: collect::host(),
        user: collect::user(),
        end: match stopped.ended {
            Ended::Exited(status) => End::Exited(status),
            Ended::Killed(signal) => End::Killed(signal),
        },
        losses: finished.losses,
        notes,
        processes: finished.processes,
    };
    Ok(Run { header, calls })
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
            "{} counted on the slower path: no row was free (`--rows` adds more) or a thread made more than 128 different calls",
            units::plural(finished.slow_calls, "call was", "calls were")
        ));
    }
    if finished.threads_running != 0 {
        notes.push(format!(
            "{} of the tree still ran at the end; `--wait-all` waits for them",
            units::plural(finished.threads_running, "thread", "threads")
        ));
    }
    if in_pid_namespace() {
        notes.push("process numbers are those of the initial pid namespace, not of this container".to_owned());
    }
    notes
}

/// The initial pid namespace has a fixed inode (`PROC_PID_INIT_INO` in the kernel's proc_ns.h).
fn in_pid_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() != "pid:[4026531836]")
}
