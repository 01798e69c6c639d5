//! The thread that turns the journal into the Parquet file, when nothing else wants the CPU.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crate::{
    Shared,
    event::Event,
    file::{ROWS, RecordingError, Unfinished},
    journal::JournalReader,
    priority,
    table::Table,
};

/// How often the journal is looked at when all of it is read.
const INTERVAL: Duration = Duration::from_millis(50);

/// How often new drivers are looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) fn run(
    mut input: JournalReader,
    mut output: Unfinished,
    mut table: Table,
    shared: &Shared,
) -> Result<Unfinished, RecordingError> {
    let nice = priority::last();
    let mut is_urgent = false;
    let mut looked = Instant::now();
    loop {
        let is_complete = shared.is_complete.load(Ordering::Acquire);
        if is_complete && !is_urgent {
            // Now somebody waits.
            priority::set(nice);
            is_urgent = true;
        }
        if looked.elapsed() >= LOOK_AGAIN {
            table.look_again();
            looked = Instant::now();
        }
        let read = input.next(|bytes| output.count(Event::parse(bytes).map(|event| table.take(&event))));
        let read = read.map_err(RecordingError::Damaged)?;
        if table.len() >= ROWS {
            output.write(&table.frame()?)?;
        }
        shared.converted.fetch_add(read as u64, Ordering::Relaxed);
        if read == 0 {
            if is_complete {
                break;
            }
            std::thread::park_timeout(INTERVAL);
        }
    }
    output.write(&table.frame()?)?;
    Ok(output)
}
