//! The thread that empties the ring into the journal.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::atomic::Ordering,
    time::Duration,
};

use gpuos_tracer_abi::events::{GAP, Gap, Head};

use super::{Shared, journal};
use crate::{bpf::ring::Ring, collect};

/// How often the ring is looked at. At two million events a second it takes 16 MiB a tenth of a second to fill.
const INTERVAL: Duration = Duration::from_millis(10);

/// Empties the ring until it is told that nothing more comes. After an error nothing is read any more: the trace goes
/// on without a recording.
pub(super) fn run(mut ring: Ring, mut file: File, shared: &Shared) -> io::Result<()> {
    let mut lost = 0;
    let mut looked_ns = collect::clocks().monotonic_ns;
    loop {
        // Before the ring is read: what came before the flag was set is read now.
        let ends = shared.ends.load(Ordering::Acquire);
        let added = std::mem::take(&mut *shared.added.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        // What was added came before what is in the ring, but for the calls in flight at the end.
        let (before, mut more) = if ends { (Vec::new(), added) } else { (added, Vec::new()) };
        file.write_all(&before)?;
        let read = ring.drain(|records| file.write_all(records))?;
        let now_ns = collect::clocks().monotonic_ns;
        let lost_now = ring.lost();
        if lost_now != lost {
            let head = Head { at_ns: looked_ns, kind: GAP, ..Head::default() };
            let gap = Gap { head, duration_ns: now_ns.saturating_sub(looked_ns), lost: lost_now - lost };
            journal::append(&mut more, &gap);
            lost = lost_now;
        }
        looked_ns = now_ns;
        file.write_all(&more)?;
        shared.written.fetch_add((before.len() + read + more.len()) as u64, Ordering::Release);
        if ends && read == 0 {
            return Ok(());
        }
        // While it fills fast there is no time to sleep.
        if read < ring.size() / 8 && !ends {
            std::thread::park_timeout(INTERVAL);
        }
    }
}
