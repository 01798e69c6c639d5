//! What a recording needs of a trace: where it goes, what it holds, and what came of it.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use gpuos_host::{diagnostics, environment};
use gpuos_model::{machine::Clocks, units};
use gpuos_recording::{Lines, Recorded, Recorder, journal::JournalHeader, window::Limits};
use gpuos_runs::run::Header;

use super::options::TraceOptions;
use gpuos_tracer_abi::events::{EventHeader, GAP, Gap, JOB, Job};

use crate::{
    aggregate::EndedJob,
    probe::{RecordingSettings, Tracer},
};

/// What is to be recorded besides counts, and where to.
#[derive(Debug)]
pub struct RecordingPlan {
    /// The file; `None`: events are only printed.
    pub path: Option<PathBuf>,
    /// Lines that are printed meanwhile.
    pub lines: Option<Lines>,
    /// What is asked of the kernel side.
    pub settings: RecordingSettings,
    /// The text of the `--roles` file.
    pub roles: String,
    /// Keep only the last of it.
    pub limits: Option<Limits>,
}

impl RecordingPlan {
    /// For the kernel side.
    pub(super) fn settings(&self) -> RecordingSettings {
        self.settings
    }

    /// Begins to record what the programs write from now on.
    pub(super) fn begin(
        &mut self,
        tracer: Option<&mut Tracer>,
        options: &TraceOptions,
        command: &[String],
        started: jiff::Timestamp,
        clocks: Clocks,
    ) -> Result<Recorder> {
        let header = JournalHeader {
            command: command.to_vec(),
            started: started.to_string(),
            clocks,
            host: environment::host(),
            devices: options.settings.devices.clone(),
            roles: self.roles.clone(),
            filter: options.filter.clone(),
            ..JournalHeader::default()
        };
        let ring = tracer.map(|tracer| tracer.take_ring(self.settings.ring_bytes)).transpose()?;
        let mut lines = self.lines.take();
        if let Some(lines) = &mut lines {
            lines.printer.begin_at(clocks.monotonic_ns);
        }
        let recorder = match (&self.path, &self.limits, lines) {
            (Some(path), None, lines) => Recorder::begin(path, ring, &header, &options.roles, lines),
            (Some(path), Some(limits), _) => Recorder::keep_last(path, ring, &header, limits.clone()),
            (None, _, Some(lines)) => Recorder::print(ring, &header, &options.roles, lines),
            (None, _, None) => return Err(anyhow!("a recording needs a file, or a place for its lines")),
        };
        let name = self.path.as_ref().map(|path| path.display().to_string());
        recorder.map_err(|error| match name {
            Some(name) => anyhow!("{error}").context(name),
            None => anyhow!("{error}"),
        })
    }
}

/// Adds jobs that have ended, and how many more there were.
pub(super) fn add_jobs(recorder: &Recorder, (jobs, lost): (Vec<EndedJob>, u64)) {
    for EndedJob { pid, label, record } in jobs {
        let head = EventHeader {
            at_ns: record.submitted_ns,
            pid,
            thread: record.submitter,
            kind: JOB,
            ..EventHeader::default()
        };
        let duration_ns = record.known_ns.saturating_sub(record.submitted_ns);
        let looked_ns = record.looked_ns.saturating_sub(record.submitted_ns).min(duration_ns);
        let (knower, failed, number) = (record.knower, record.failed, record.number);
        recorder.add(&Job { head, duration_ns, looked_ns, number, knower, failed, label });
    }
    if lost != 0 {
        let head = EventHeader { at_ns: environment::monotonic_ns(), kind: GAP, ..EventHeader::default() };
        recorder.add(&Gap { head, duration_ns: 0, lost });
    }
}

/// Waits for what is still to be written, and says what came of it.
pub(super) fn finish(recorder: Option<Recorder>, header: &Header, speaks: bool) -> Result<()> {
    let Some(recorder) = recorder else { return Ok(()) };
    let files = recorder.finish(header)?;
    if !speaks {
        return Ok(());
    }
    if files.is_empty() {
        diagnostics::print("\nnothing was recorded: `--when` never came true\n");
    }
    for Recorded { path, rows, bytes } in files {
        let (events, bytes) = (units::plural(rows, "event", "events"), units::plural(bytes, "byte", "bytes"));
        diagnostics::print(&format!("\nrecorded {events} in {bytes} to {}\n", path.display()));
    }
    Ok(())
}
