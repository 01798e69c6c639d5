//! The thread that empties the ring into the journal.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use gpuos_host::{diagnostics, environment::monotonic_ns};
use gpuos_tracer_abi::events::{EventHeader, GAP, Gap};

use crate::{Shared, journal, priority, ring::Ring};

/// How often the ring is looked at. At two million events a second it takes 16 MiB a tenth of a second to fill.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);

/// Takes what is in the ring, and what was added by others, and writes down what found no place.
pub(crate) struct Drain {
    /// None where events are added by who traces.
    ring: Option<Ring>,
    lost: u64,
    looked_ns: u64,
}

impl Drain {
    pub(crate) fn new(ring: Option<Ring>) -> Self {
        Self { ring, lost: 0, looked_ns: monotonic_ns() }
    }

    /// Whether it fills so slowly that there is time to sleep, where so many bytes were read.
    pub(crate) fn may_rest(&self, read: usize) -> bool {
        self.ring.as_ref().is_none_or(|ring| read < ring.size() / 8)
    }

    /// Gives all records that are there to `take`. Says how many bytes, and whether nothing more comes afterwards.
    pub(crate) fn next(
        &mut self,
        shared: &Shared,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(usize, bool), io::Error> {
        let taken = |of: &Mutex<Vec<u8>>| std::mem::take(&mut *of.lock().unwrap_or_else(PoisonError::into_inner));
        // Before the ring is read: what came before the flag was set is read now.
        let ends = shared.ends.load(Ordering::Acquire);
        // What was added came before what followed from it in the ring: it is taken once it is known what is read there.
        let mut added = None;
        let drained = self.ring.as_mut().map(|ring| {
            ring.drain(|records| {
                take(added.insert(taken(&shared.added)))?;
                take(records)
            })
        });
        let mut read = drained.unwrap_or(Ok(0))?;
        if added.is_none() {
            take(added.insert(taken(&shared.added)))?;
        }
        read += added.map_or(0, |added| added.len());
        let mut more = if ends { taken(&shared.in_flight) } else { Vec::new() };
        let now_ns = monotonic_ns();
        let lost = self.ring.as_ref().map_or(0, Ring::lost);
        if lost != self.lost {
            let head = EventHeader { at_ns: self.looked_ns, kind: GAP, ..EventHeader::default() };
            let gap = Gap { head, duration_ns: now_ns.saturating_sub(self.looked_ns), lost: lost - self.lost };
            journal::append(&mut more, &gap);
            self.lost = lost;
        }
        self.looked_ns = now_ns;
        take(&more)?;
        Ok((read + more.len(), ends))
    }
}

/// Empties the ring until it is told that nothing more comes. After an error nothing is written any more, which is said at
/// once: the trace goes on without a recording.
pub(crate) fn run(ring: Option<Ring>, mut file: File, journal: &Path, shared: &Shared) -> io::Result<()> {
    priority::first();
    let mut drain = Drain::new(ring);
    let mut failure: Option<io::Error> = None;
    loop {
        let (read, ends) = drain.next(shared, |records| {
            // The ring is emptied all the same: that it is full would be said to be why events are missing.
            if failure.is_none()
                && let Err(error) = file.write_all(records)
            {
                let journal = journal.display();
                diagnostics::report(&format!(
                    "the recording ends here: cannot write `{journal}`: {error}; the trace goes on"
                ));
                failure = Some(error);
            }
            Ok(())
        })?;
        if failure.is_none() {
            shared.written.fetch_add(read as u64, Ordering::Release);
        }
        if ends && read == 0 {
            return failure.map_or(Ok(()), Err);
        }
        // While it fills fast there is no time to sleep.
        if drain.may_rest(read) && !ends {
            std::thread::park_timeout(INTERVAL);
        }
    }
}
