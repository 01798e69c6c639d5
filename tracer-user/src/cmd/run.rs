//! `gpuos-trace run -- CMD`: launch, count, and say what was counted.
//!
//! Order: check the options, try the output, find the command, fork it suspended, load and attach,
//! arm, release, wait, detach, read the counts, write the file, print the tables. Detaching comes
//! before the last reading, so that nothing moves while it is read.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, anyhow};

use super::{
    outcome::{self, Findings},
    record::Plan,
    stacks::{self, Sites},
};
use crate::{
    bpf::Tracer,
    cli::RunArgs,
    collect::{self, Gathered},
    launch::{Command, Given, Suspended},
    live::{
        Live,
        output::{CommandSide, Output},
    },
    model::run::{End, Run},
    options::RunOptions,
    record::Recorder,
    signals::{Ended, Signals, end_like},
    stacks::Reader,
    talk,
};

pub(super) fn run(args: RunArgs, plan: Option<Plan>) -> Result<()> {
    let mut options = RunOptions::from_args(args)?;
    options.trace.settings.recording = plan.as_ref().map(Plan::settings);
    let command = Command::find(&options.command)?;
    // The view needs the terminal for itself: the command's output is read from one of its own.
    let takes_screen = options.trace.live && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let (master, side) = if takes_screen {
        let (master, side) = Output::prepare().context("cannot make a terminal for the command's output")?;
        (Some(master), Some(side))
    } else {
        (None, None)
    };
    let given = Given {
        account: options.user.as_ref(),
        variables: &options.variables,
        streams: side.as_ref().map_or_else(Vec::new, CommandSide::streams),
    };
    let suspended = Suspended::spawn(&command, &given)?;
    drop(side);
    let Traced { ended, run, recorder, sites } = trace(&options, suspended, master, plan.as_ref())?;

    outcome::first_failure([
        outcome::publish(&mut options.trace, &run),
        stacks::write(&mut options.trace, sites, &run),
        Plan::finish(recorder, &run.header, options.trace.view.is_some()),
    ])?;
    if options.trace.view.is_some() && options.user.is_none() && std::env::var_os("SUDO_USER").is_some() {
        talk::print("note: the command ran as root; `-u $USER` runs it as you\n");
    }
    if options.trace.strict && run.header.losses.any() {
        return Err(anyhow!("{}; the command itself {}", outcome::STRICT, ended_words(ended)));
    }
    end_like(ended)
}

fn ended_words(ended: Ended) -> String {
    match ended {
        Ended::Exited(status) => format!("exited with status {status}"),
        Ended::Killed(signal) => format!("was killed by signal {signal}"),
    }
}

/// What came of a trace.
struct Traced {
    ended: Ended,
    run: Run,
    recorder: Option<Recorder>,
    sites: Option<Sites>,
}

/// From the suspended child to a run.
fn trace(options: &RunOptions, suspended: Suspended, output: Option<OwnedFd>, plan: Option<&Plan>) -> Result<Traced> {
    let mut tracer = Tracer::start(&options.trace.settings)?;
    tracer.arm(suspended.pid(), suspended.pidfd())?;
    let counters = tracer.counters()?;
    let signals = Signals::take().context("cannot take signals over")?;
    let started = jiff::Timestamp::now();
    let clocks = collect::clocks();
    let mut gathered = Gathered::begin(options.trace.settings.devices.clone(), &counters, options.trace.live)
        .context("cannot tell the kernel side of the drivers")?;
    let words: Vec<String> = options.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut live = options.trace.live_view(words.join(" "), output)?;
    if options.pane {
        live.iter_mut().for_each(Live::show_output);
    }
    let recorder = plan.map(|plan| plan.begin(&tracer, &options.trace, &words, started, clocks)).transpose()?;
    let maps = options.trace.stacks.as_ref().map(|_| Reader::begin(vec![suspended.pid()])).transpose();
    let maps = maps.context("cannot start a thread")?;
    let running = suspended.release()?;
    recorder.iter().for_each(Recorder::begun);
    let (stopped, signals) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(collect::until_end(
            running,
            signals,
            options.wait_all,
            &counters,
            &mut gathered,
            &mut live,
            |signal| recorder.as_ref().is_some_and(|recorder| recorder.takes(signal)),
        ))
        .context("cannot wait for the command")?;
    if let Some(live) = live {
        live.finish();
    }
    recorder.iter().for_each(Recorder::at_end);
    let wall_ns = collect::clocks().monotonic_ns - clocks.monotonic_ns;
    let recursion_misses = tracer.detach(gathered.tree_is_empty(&counters))?;
    if let Some(recorder) = &recorder {
        recorder.stop(&tracer.calls_in_flight(&counters)?);
    }
    let sites = maps.map(|reader| tracer.stacks(&counters).map(|found| Sites { found, reader })).transpose()?;
    let mut finished = gathered.finish(&counters).context("cannot read the counts")?;
    finished.losses.recursion_misses = recursion_misses;
    if let [command] = finished.processes.as_mut_slice() {
        command.set_usage(stopped.usage);
    }
    // From here on the tracer can be interrupted as any program.
    drop(signals);
    let run = outcome::assemble(
        &options.trace,
        Findings {
            command: words,
            wait_all: options.wait_all,
            started: started.to_string(),
            wall_ns,
            clocks,
            end: match stopped.ended {
                Ended::Exited(status) => End::Exited(status),
                Ended::Killed(signal) => End::Killed(signal),
            },
            finished,
            wants_ranges: !options.variables.is_empty(),
            without_types: tracer.without_types().map(str::to_owned),
            roles_text: plan.map(|plan| plan.roles.clone()).unwrap_or_default(),
        },
    )?;
    Ok(Traced { ended: stopped.ended, run, recorder, sites })
}
