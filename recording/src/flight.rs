//! The thread of a flight recorder: empties the ring into memory, and writes the last seconds when it is told to.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    thread::JoinHandle,
};

use gpuos_host::{environment::monotonic_ns, files};

use crate::{
    Recorded, RecordingError, Shared,
    drain::{Drain, INTERVAL},
    journal::{self, JournalHeader, JournalReader},
    priority,
    ring::Ring,
    source, spawn,
    window::{Limits, Window},
};

/// Keeps the last of what comes until nothing more does. Says what was written.
pub(crate) fn run(
    ring: Option<Ring>,
    limits: Limits,
    path: &Path,
    head: &JournalHeader,
    shared: &Shared,
) -> Result<Vec<Recorded>, RecordingError> {
    let writes_at_end = limits.triggers.is_empty();
    let window_ns = limits.window.as_nanos() as u64;
    let mut window = Window::new(limits);
    priority::first();
    let mut drain = Drain::new(ring);
    let mut writing: Vec<(u64, JoinHandle<Result<Recorded, RecordingError>>)> = Vec::new();
    let (mut fired, mut number) = (false, 0);
    let mut now_ns = 0;
    loop {
        let mut records = Vec::new();
        let (read, ends) = drain.next(shared, |bytes| {
            records.extend_from_slice(bytes);
            Ok(())
        })?;
        if !shared.is_at_end.load(Ordering::Acquire) || now_ns == 0 {
            now_ns = monotonic_ns();
        }
        fired |= window.add(&records, now_ns);
        let was_asked = shared.is_wanted.load(Ordering::Acquire);
        // One at a time, and not before the window can be full again: what fires all the time must not fill the disk.
        let is_free = writing.last().is_none_or(|(_, thread)| thread.is_finished());
        let may_fire = is_free && writing.last().is_none_or(|(at_ns, _)| now_ns >= at_ns + window_ns);
        let is_over = ends && read == 0;
        if fired && may_fire || was_asked && is_free || is_over && (fired || was_asked || writes_at_end) {
            let why = match (fired, was_asked) {
                (true, _) => "flight recording: the last seconds before `--when` came true",
                (_, true) => "flight recording: the last seconds before SIGUSR1",
                _ => "flight recording: the last seconds",
            };
            shared.is_wanted.store(false, Ordering::Release);
            let (path, mut head, records) = (free_name(path, &mut number), head.clone(), window.records());
            head.devices.look_at_all();
            writing.push((now_ns, spawn("gpuos-writer", move || write(&path, &head, &records, why))?));
            window.clear();
            fired = false;
        }
        if is_over {
            break;
        }
        if drain.may_rest(read) && !ends {
            std::thread::park_timeout(INTERVAL);
        }
    }
    let panicked = || RecordingError::Thread(std::io::Error::other("it panicked"));
    // All of them, then the first error.
    let ended: Vec<_> =
        writing.into_iter().map(|(_, thread)| thread.join().unwrap_or_else(|_| Err(panicked()))).collect();
    ended.into_iter().collect()
}

/// The name as it was given for the first file, which takes the place of an older one; for later ones the next number
/// that no file has.
fn free_name(path: &Path, number: &mut usize) -> PathBuf {
    loop {
        let name = numbered(path, *number);
        *number += 1;
        // What lies under the first name is to be replaced. A journal is somebody's, and was looked for at the start.
        if *number == 1 || !name.exists() && !journal::path_for(&name).exists() {
            return name;
        }
    }
}

/// `x.parquet`, `x-2.parquet`, `x-3.parquet` and so on.
fn numbered(path: &Path, before: usize) -> PathBuf {
    if before == 0 {
        return path.to_path_buf();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{}", before + 1));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}

fn write(path: &Path, head: &JournalHeader, records: &[u8], why: &str) -> Result<Recorded, RecordingError> {
    // It was started by the thread that goes first.
    priority::last();
    let journal = journal::path_for(path);
    let mut file = journal::create(&journal, head)?;
    let shown = || journal.display().to_string();
    file.write_all(records).map_err(|source| RecordingError::Stopped { journal: shown(), source })?;
    let written = JournalReader::follow(&file, &journal)
        .map_err(RecordingError::from)
        .and_then(|reader| source::finish(reader, path, |_, _| why.to_owned()));
    let (recorded, _) =
        written.map_err(|error| RecordingError::NotWritten { journal: shown(), reason: error.to_string() })?;
    let _ = files::remove(&journal);
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_are_numbered() {
        let path = Path::new("some/run.parquet");
        assert_eq!(numbered(path, 0), path);
        assert_eq!(numbered(path, 1), Path::new("some/run-2.parquet"));
        assert_eq!(numbered(Path::new("run"), 2), Path::new("run-3"));
    }
}
