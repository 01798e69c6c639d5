//! Events as lines while they come: from the ring where nothing else is recorded, from the journal where a file is.

use std::{
    io::{self, Write},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use gpuos_host::diagnostics;

use crate::{
    RecordingError, Shared,
    drain::{Drain, INTERVAL},
    event::Event,
    journal::{self, JournalReader},
    print::{Choice, Printer},
    priority,
    ring::Ring,
    rows,
    table::Table,
};

/// Where lines go, and which.
pub struct Lines {
    /// What turns events into them.
    pub printer: Printer,
    /// Which events are wanted.
    pub choice: Choice,
    /// Where they go.
    pub to: Box<dyn Write + Send>,
    /// The trace is for them alone, of processes that go on without it: it ends when their reader has gone.
    pub ends_when_closed: bool,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("choice", &self.choice).finish_non_exhaustive()
    }
}

/// How often new drivers are looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Events on their way to lines.
struct Stream {
    lines: Lines,
    table: Table,
    looked: Instant,
    /// Its reader has gone, or it cannot be written.
    is_closed: bool,
    failure: Option<io::Error>,
}

impl Stream {
    fn new(lines: Lines, table: Table) -> Self {
        Self { lines, table, looked: Instant::now(), is_closed: false, failure: None }
    }

    /// Prints what has come.
    fn print(&mut self) -> Result<(), RecordingError> {
        if self.looked.elapsed() >= LOOK_AGAIN {
            self.table.look_again();
            self.looked = Instant::now();
        }
        if self.table.is_empty() {
            return Ok(());
        }
        let Lines { printer, choice, to, ends_when_closed } = &mut self.lines;
        let mut text = String::new();
        rows::each::<RecordingError>(&self.table.frame()?, |row| {
            if let Some(line) = printer.line(&row, choice) {
                text += &line;
                text.push('\n');
            }
            Ok(())
        })?;
        if self.is_closed || text.is_empty() {
            return Ok(());
        }
        if let Err(error) = to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
            // A command that was launched goes on.
            self.is_closed = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                diagnostics::report(&format!("no more lines are printed: {error}; the trace goes on"));
                self.failure = Some(error);
            }
            if *ends_when_closed {
                // To the process: a signal to this thread alone would not be read.
                let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGTERM);
            }
        }
        Ok(())
    }

    /// What came of it.
    fn end(self) -> Result<(), RecordingError> {
        self.failure.map_or(Ok(()), |error| Err(RecordingError::Lines(error)))
    }
}

/// Prints what comes through the ring until nothing more does.
pub(crate) fn of_ring(ring: Option<Ring>, lines: Lines, table: Table, shared: &Shared) -> Result<(), RecordingError> {
    priority::first();
    let (mut drain, mut stream) = (Drain::new(ring), Stream::new(lines, table));
    loop {
        let table = &mut stream.table;
        let (read, ends) = drain.next(shared, |records| {
            // The kernel's records are well formed.
            journal::records(records, &mut |bytes: &[u8]| {
                if let Some(event) = Event::parse(bytes) {
                    table.take(&event);
                }
            })
            .map(drop)
        })?;
        stream.print()?;
        if ends && read == 0 {
            return stream.end();
        }
        if drain.may_rest(read) && !ends {
            std::thread::park_timeout(INTERVAL);
        }
    }
}

/// Prints what comes to a journal until that is complete.
pub(crate) fn of_journal(
    mut input: JournalReader,
    lines: Lines,
    table: Table,
    shared: &Shared,
) -> Result<(), RecordingError> {
    let mut stream = Stream::new(lines, table);
    loop {
        let is_complete = shared.is_complete.load(Ordering::Acquire);
        let table = &mut stream.table;
        let read = input.next(|bytes| {
            if let Some(event) = Event::parse(bytes) {
                table.take(&event);
            }
        });
        let read = read.map_err(RecordingError::Damaged)?;
        stream.print()?;
        if read == 0 {
            if is_complete {
                return stream.end();
            }
            std::thread::park_timeout(INTERVAL);
        }
    }
}
