//! `gpuos-trace attach -p PID`: count what running processes do, until Ctrl-C or their end.

use anyhow::{Context as _, Result, anyhow};

use super::{
    outcome::{self, Findings},
    record::Plan,
    stacks::{self, Sites},
};
use crate::{
    bpf::{Tracer, beginning_of},
    cli::AttachArgs,
    collect::{self, Gathered},
    model::run::End,
    options::TraceOptions,
    record::Recorder,
    signals::Signals,
    stacks::Reader,
    talk,
};

pub(super) fn attach(args: AttachArgs, plan: Option<Plan>) -> Result<()> {
    let mut pids = args.pids;
    pids.sort_unstable();
    pids.dedup();
    let mut options = TraceOptions::from_args(args.trace)?;
    options.settings.attaching = true;
    options.settings.recording = plan.as_ref().map(Plan::settings);
    let watched = collect::watch(&pids)?;
    let mut tracer = Tracer::start(&options.settings)?;
    let counters = tracer.counters()?;
    let mut gathered = Gathered::begin(options.settings.devices.clone(), &counters, options.live)
        .context("cannot tell the kernel side of the drivers")?;
    let signals = Signals::take().context("cannot take signals over")?;
    let started = jiff::Timestamp::now();
    let clocks = collect::clocks();
    let names = pids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let command = ["attach".to_owned(), "-p".to_owned(), names.join(",")];
    let recorder = plan.as_ref().map(|plan| plan.begin(&tracer, &options, &command, started, clocks)).transpose()?;
    let maps = options.stacks.as_ref().map(|_| Reader::begin(pids.clone())).transpose();
    let maps = maps.context("cannot start a thread")?;
    let mut attached = Vec::new();
    for &pid in &pids {
        let now_ns = collect::clocks().monotonic_ns;
        if let Some(recorder) = &recorder {
            recorder.add(&beginning_of(pid, now_ns));
        }
        attached.push(tracer.attach_to(pid, now_ns)?);
    }
    recorder.iter().for_each(Recorder::begun);
    let title = format!("attached to {}", names.join(", "));
    if options.view.is_some() {
        talk::say(&format!("{title}; Ctrl-C ends it"));
    }
    let mut live = options.live_view(title, None)?;
    let signals = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(collect::until_detached(
            watched,
            signals,
            &counters,
            &mut gathered,
            &mut live,
            |signal| recorder.as_ref().is_some_and(|recorder| recorder.takes(signal)),
            || Ok(()),
        ))
        .context("cannot wait for the processes")?;
    drop(live);
    recorder.iter().for_each(Recorder::at_end);
    let wall_ns = collect::clocks().monotonic_ns - clocks.monotonic_ns;
    let recursion_misses = tracer.detach(gathered.tree_is_empty(&counters))?;
    if let Some(recorder) = &recorder {
        recorder.stop(&tracer.calls_in_flight(&counters)?);
    }
    let sites = maps.map(|reader| tracer.stacks(&counters).map(|found| Sites { found, reader })).transpose()?;
    let mut finished = gathered.finish(&counters).context("cannot read the counts")?;
    finished.losses.recursion_misses = recursion_misses;
    finished.waits_for_tree = None;
    // Without types nobody knows what threads had used that have ended meanwhile.
    for process in attached.iter().filter(|_| tracer.without_types().is_none()) {
        finished.add_usage(process.id, process.usage_of_live_threads());
    }
    drop(signals);
    let run = outcome::assemble(
        &options,
        Findings {
            command: command.into(),
            wait_all: false,
            started: started.to_string(),
            wall_ns,
            clocks,
            end: End::Detached,
            finished,
            wants_ranges: false,
            without_types: tracer.without_types().map(str::to_owned),
            roles_text: plan.map(|plan| plan.roles).unwrap_or_default(),
        },
    )?;
    outcome::first_failure([
        outcome::publish(&mut options, &run),
        stacks::write(&mut options, sites, &run),
        Plan::finish(recorder, &run.header, options.view.is_some()),
    ])?;
    if options.strict && run.header.losses.any() {
        return Err(anyhow!(outcome::STRICT));
    }
    Ok(())
}
