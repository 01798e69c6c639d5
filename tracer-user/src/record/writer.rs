//! The thread that turns the journal into the Parquet file, when nothing else wants the CPU.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    Shared,
    event::Event,
    file::{RecordingError, Unfinished},
    journal::Reader,
    table::Table,
};

/// Rows that are written at once: some twenty megabytes of memory.
pub(super) const ROWS: usize = 1 << 17;

/// How often the journal is looked at when all of it is read.
const INTERVAL: Duration = Duration::from_millis(50);

/// Of the scale on which 19 gives way to everybody.
const NICENESS: libc::c_int = 19;

pub(super) fn run(
    mut input: Reader,
    mut output: Unfinished,
    mut table: Table,
    shared: &Shared,
) -> Result<Unfinished, RecordingError> {
    // SAFETY: three integers; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    let mut is_urgent = false;
    loop {
        let is_complete = shared.is_complete.load(Ordering::Acquire);
        if is_complete && !is_urgent {
            // Now somebody waits. Going back needs a privilege that root has.
            // SAFETY: as above.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
            is_urgent = true;
        }
        let read = input.next(|bytes| output.count(Event::parse(bytes).map(|event| table.take(&event))));
        let read = read.map_err(RecordingError::Damaged)?;
        if table.len() >= ROWS {
            output.write(table.frame()?)?;
        }
        shared.converted.fetch_add(read as u64, Ordering::Relaxed);
        if read == 0 {
            if is_complete {
                break;
            }
            std::thread::park_timeout(INTERVAL);
        }
    }
    output.write(table.frame()?)?;
    Ok(output)
}
