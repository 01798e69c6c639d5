//! Recordings: every event with its time, from the kernel's ring through a journal to a Parquet file.
//!
//! ```text
//! ring ─► drain (a thread, every 10 ms) ─► journal FILE.part ─► writer (another, nice 19) ─► FILE
//! ```
//!
//! The drain does nothing but write what is in the ring to the journal, so it keeps up with whatever the machine can
//! do; what the writer has not turned into columns yet waits on disk, not in memory. When the Parquet file is complete
//! the journal goes. See `docs/decisions/0010-recordings.md`.

pub mod counts;
mod drain;
pub mod event;
pub mod export;
pub mod file;
mod flight;
pub mod interner;
pub mod journal;
pub mod print;
mod priority;
pub mod replay;
pub mod ring;
pub mod rows;
pub mod source;
mod stream;
pub mod table;
pub mod window;
mod writer;

use std::{
    cell::Cell,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytemuck::NoUninit;
use gpuos_decode::roles::Roles;
use gpuos_host::{diagnostics, files};
use gpuos_runs::run::Header;
use gpuos_tracer_abi::events::Call;
use indicatif::{ProgressBar, ProgressStyle};

pub use file::RecordingError;
use journal::JournalHeader;
use ring::Ring;
pub use stream::Lines;
use table::Table;
use window::Limits;

/// What the threads of a recording tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// The reader is to drain the ring once more and end.
    ends: AtomicBool,
    /// Nothing more comes to the journal.
    is_complete: AtomicBool,
    /// The flight recorder is to write what it has.
    is_wanted: AtomicBool,
    /// What is traced has ended: the window goes no further.
    is_at_end: AtomicBool,
    /// Bytes that the reader has written to the journal, its head left out.
    written: AtomicU64,
    /// Bytes that the writer has read.
    converted: AtomicU64,
    /// Records that do not come from the ring.
    added: Mutex<Vec<u8>>,
    /// Calls that had not returned at the end, which come last.
    in_flight: Mutex<Vec<u8>>,
}

/// A recording while it goes on.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    path: PathBuf,
    /// There is something to record: what is in the journal is worth keeping whatever happens.
    is_running: Cell<bool>,
    /// Until it is finished.
    work: Option<Work>,
}

#[derive(Debug)]
enum Work {
    /// All of it, through a journal.
    Whole {
        reader: JoinHandle<io::Result<()>>,
        writer: JoinHandle<Result<file::Unfinished, RecordingError>>,
        /// Who prints it, too.
        lines: Option<JoinHandle<Result<(), RecordingError>>>,
        journal: PathBuf,
    },
    /// The last seconds of it, in memory.
    Window(JoinHandle<Result<Vec<Recorded>, RecordingError>>),
    /// Lines of text, and no file.
    Lines(JoinHandle<Result<(), RecordingError>>),
}

/// A finished recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Where it is.
    pub path: PathBuf,
    /// Rows of the file.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RecordingError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(RecordingError::Thread)
}

impl Recorder {
    /// Begins to write what comes through the ring (`None`: what is added), and to print it where that is wanted.
    ///
    /// # Errors
    /// [`RecordingError`] when the files cannot be made.
    pub fn begin(
        path: &Path,
        ring: Option<Ring>,
        head: &JournalHeader,
        roles: &Roles,
        lines: Option<Lines>,
    ) -> Result<Self, RecordingError> {
        let journal = journal::path_for(path);
        let file = journal::create(&journal, head)?;
        let shared = Arc::new(Shared::default());
        let unfinished = file::Unfinished::create(path).inspect_err(|_| drop(files::remove(&journal)))?;
        let input = journal::JournalReader::follow(&file, &journal)?;
        let table = || Table::new(roles.clone(), head.devices.clone());
        let print = |lines| {
            let (shared, table, input) = (shared.clone(), table(), journal::JournalReader::follow(&file, &journal)?);
            spawn("gpuos-lines", move || stream::of_journal(input, lines, table, &shared))
        };
        let lines = lines.map(print).transpose()?;
        let reader = {
            let (shared, journal) = (shared.clone(), journal.clone());
            spawn("gpuos-ring", move || drain::run(ring, file, &journal, &shared))?
        };
        let writer = {
            let shared = shared.clone();
            let table = table();
            spawn("gpuos-writer", move || writer::run(input, unfinished, table, &shared))?
        };
        let work = Some(Work::Whole { reader, writer, lines, journal });
        Ok(Self { shared, path: path.to_path_buf(), is_running: Cell::new(false), work })
    }

    /// Begins to keep the last of what comes through the ring.
    ///
    /// # Errors
    /// [`RecordingError`] when files cannot be made there.
    pub fn keep_last(
        path: &Path,
        ring: Option<Ring>,
        head: &JournalHeader,
        limits: Limits,
    ) -> Result<Self, RecordingError> {
        // Tried now, used when something happens.
        drop(file::Unfinished::create(path)?);
        let journal = journal::path_for(path);
        if journal.exists() {
            return Err(journal::JournalError::Exists(journal.display().to_string()).into());
        }
        let shared = Arc::new(Shared::default());
        let reader = {
            let (shared, head, path) = (shared.clone(), head.clone(), path.to_path_buf());
            spawn("gpuos-ring", move || flight::run(ring, limits, &path, &head, &shared))?
        };
        let work = Some(Work::Window(reader));
        Ok(Self { shared, path: path.to_path_buf(), is_running: Cell::new(false), work })
    }

    /// Begins to print what comes through the ring; nothing is kept.
    ///
    /// # Errors
    /// [`RecordingError::Thread`].
    pub fn print(
        ring: Option<Ring>,
        head: &JournalHeader,
        roles: &Roles,
        lines: Lines,
    ) -> Result<Self, RecordingError> {
        let shared = Arc::new(Shared::default());
        let table = Table::new(roles.clone(), head.devices.clone());
        let reader = {
            let shared = shared.clone();
            spawn("gpuos-ring", move || stream::of_ring(ring, lines, table, &shared))?
        };
        Ok(Self { shared, path: PathBuf::new(), is_running: Cell::new(false), work: Some(Work::Lines(reader)) })
    }

    /// The command runs, or the processes are attached to.
    pub fn begun(&self) {
        self.is_running.set(true);
    }

    /// Ends a recording whose trace failed. What it has is kept if the trace had begun.
    fn give_up(&mut self) {
        let Some(work) = self.work.take() else { return };
        self.shared.ends.store(true, Ordering::Release);
        self.shared.is_complete.store(true, Ordering::Release);
        match work {
            Work::Lines(reader) => {
                reader.thread().unpark();
                drop(reader.join());
            }
            Work::Whole { reader, writer, lines, journal } => {
                reader.thread().unpark();
                let _ = reader.join();
                drop(lines.map(JoinHandle::join));
                writer.thread().unpark();
                drop(writer.join());
                if self.is_running.get() {
                    let journal = journal.display().to_string();
                    diagnostics::report(&RecordingError::TraceFailed { journal }.to_string());
                } else {
                    let _ = files::remove(&journal);
                }
            }
            Work::Window(reader) => {
                reader.thread().unpark();
                drop(reader.join());
            }
        }
    }

    /// Takes a signal that asks the flight recorder to write, and says whether it is that.
    pub fn takes(&self, signal: libc::c_int) -> bool {
        let Some(Work::Window(reader)) = &self.work else { return false };
        if signal != libc::SIGUSR1 {
            return false;
        }
        self.shared.is_wanted.store(true, Ordering::Release);
        reader.thread().unpark();
        true
    }

    /// Adds an event that does not come from the ring.
    pub fn add<T: NoUninit>(&self, event: &T) {
        let mut added = self.shared.added.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        journal::append(&mut added, event);
    }

    /// What is traced has ended, though its last events may still be in the ring: taking the programs away can last longer
    /// than the window of a flight recorder.
    pub fn at_end(&self) {
        self.shared.is_at_end.store(true, Ordering::Release);
    }

    /// Drains the ring for the last time. To be called when nothing comes any more. `in_flight`: calls that had not
    /// returned.
    pub fn stop(&self, in_flight: &[Call]) {
        {
            let mut last = self.shared.in_flight.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            in_flight.iter().for_each(|call| journal::append(&mut last, call));
        }
        self.shared.ends.store(true, Ordering::Release);
        match &self.work {
            Some(Work::Whole { reader, .. }) => reader.thread().unpark(),
            Some(Work::Window(reader)) => reader.thread().unpark(),
            Some(Work::Lines(reader)) => reader.thread().unpark(),
            None => {}
        }
    }

    /// Waits until all of it is on disk, and says what that is.
    ///
    /// # Errors
    /// [`RecordingError`]; what was recorded is in the journal then.
    pub fn finish(mut self, header: &Header) -> Result<Vec<Recorded>, RecordingError> {
        let Some(work) = self.work.take() else { return Ok(Vec::new()) };
        let Self { shared, path, .. } = &self;
        let panicked = || io::Error::other("the thread panicked");
        let (reader, writer, lines, journal) = match work {
            Work::Whole { reader, writer, lines, journal } => (reader, writer, lines, journal),
            Work::Lines(reader) => {
                let printed = reader.join().unwrap_or_else(|_| Err(RecordingError::Thread(panicked())));
                return printed.map(|()| Vec::new());
            }
            Work::Window(reader) => {
                return reader.join().unwrap_or_else(|_| Err(RecordingError::Thread(panicked())));
            }
        };
        let in_journal = |source: io::Error| RecordingError::Stopped { journal: journal.display().to_string(), source };
        let read = reader.join().unwrap_or_else(|_| Err(panicked()));
        shared.is_complete.store(true, Ordering::Release);
        writer.thread().unpark();
        // The file is finished whatever came of the lines.
        let printed = lines.map_or(Ok(()), |lines| {
            lines.thread().unpark();
            lines.join().unwrap_or_else(|_| Err(RecordingError::Thread(panicked())))
        });
        // Nothing is drawn where nobody looks.
        let progress = ProgressBar::new(shared.written.load(Ordering::Relaxed)).with_style(progress_style());
        while !writer.is_finished() {
            progress.set_position(shared.converted.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(20));
        }
        progress.finish_and_clear();
        let written = writer.join().unwrap_or_else(|_| Err(in_journal(panicked())));
        read.map_err(in_journal)?;
        let unfinished = written.map_err(|error| RecordingError::NotWritten {
            journal: journal.display().to_string(),
            reason: error.to_string(),
        })?;
        let recorded = unfinished.finish(path, header).map_err(|error| RecordingError::NotWritten {
            journal: journal.display().to_string(),
            reason: error.to_string(),
        })?;
        // What it held is in the file.
        let _ = files::remove(&journal);
        printed.map(|()| vec![recorded])
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn progress_style() -> ProgressStyle {
    ProgressStyle::with_template("writing the recording {bar:30} {bytes} of {total_bytes}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
