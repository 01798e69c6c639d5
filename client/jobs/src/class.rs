//! A class of jobs: a label, what was learnt of its jobs, and their memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    arena::{Arena, ArenaStats, Memory},
    backend::Backend,
    context::Context,
    error::Result,
    identity::{self, Grown},
    learn::{History, LEAST, Oversleep, REMEMBERED, wake_after},
};

/// How to wait for a job of which nothing is known yet, or whose kind varies so much that sleeping to its earliest end gains
/// little.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Asleep, in the runtime.
    #[default]
    Block = 0,
    /// Looking all the time; after the watchdog's time with naps in between.
    Spin = 1,
}

/// What a program says of a class.
#[derive(Clone, Debug, Default)]
pub struct ClassOptions {
    /// Its name.
    pub label: String,
    /// How late waits may be on average, ‰ of a job's duration: 0 wakes up for the earliest of the last 32.
    pub lateness: u32,
    /// How to wait when nothing is known.
    pub unknown: Unknown,
    /// Bytes that a job is likely to need; 0 where that is not known.
    pub bytes: usize,
    /// After how many nanoseconds beyond its longest duration the runtime is asked what became of a job; 0 for 100 ms.
    pub watchdog: u64,
}

/// What was counted since the class was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Jobs that began.
    pub begun: u64,
    /// Jobs whose work was done.
    pub done: u64,
    /// Jobs that failed, or were cancelled.
    pub failed: u64,
    /// The median of the last durations, from submission (or the end of the job before it in its stream) to when it was known,
    /// nanoseconds; 0 while too few are known.
    pub duration: u64,
    /// Sleeps to a predicted time.
    pub sleeps: u64,
    /// Jobs that had ended before the time that a wait, or a loop, slept to.
    pub late: u64,
    /// Waits in the runtime.
    pub blocks: u64,
    /// Further sleeps of jobs that took longer than ever.
    pub naps: u64,
    /// Jobs that asked for a recording and got none.
    pub unrecorded: u64,
    /// Memory.
    pub arena: ArenaStats,
}

/// When to look for a job's end, counted from when it could start, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Wake up; from then on look all the time.
    pub wake: u64,
    /// From then on nap: it takes longer than any before.
    pub nap: u64,
    /// Looking all the time would take so much of it that the runtime's own wait is cheaper.
    pub is_wide: bool,
}

/// How a job's end became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Somebody looked just before, and it had not ended: the duration is exact.
    Ending,
    /// A sleep to a predicted time was too long.
    Late,
    /// The runtime said so, or a look for another job found it, some time after.
    Blocked,
    /// It was there at the first look: that says nothing of how long it took.
    Found,
}

#[derive(Debug, Default)]
struct Learnt {
    /// Durations: those that were seen to end are exact, those that had ended before anybody looked are at most so long.
    durations: History,
    /// Of the last: for how many in a row the sleep was too long.
    late_in_a_row: u32,
    oversleep: Oversleep,
    stats: ClassStats,
    /// Of the last: for how many in a row the runtime waited.
    blocked_in_a_row: u32,
    graph: Option<Arc<Graph>>,
    /// Memory that what was recorded uses: it belongs to no job any more.
    recorded: Memory,
}

/// What was recorded, as long as a job may submit it.
#[derive(Debug)]
pub(crate) struct Graph {
    context: Arc<Context>,
    pub(crate) number: u64,
}

impl Graph {
    pub(crate) fn new(context: &Arc<Context>, number: u64) -> Arc<Self> {
        Arc::new(Self { context: Arc::clone(context), number })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.context.backend.forget(self.number);
    }
}

impl Learnt {
    /// A job took so long.
    fn took(&mut self, duration: u64, seen: Seen) {
        match seen {
            Seen::Ending => {
                self.durations.add(duration);
                (self.late_in_a_row, self.blocked_in_a_row) = (0, 0);
            }
            Seen::Late => {
                self.durations.add_at_most(duration);
                self.late_in_a_row = (self.late_in_a_row + 1).min(32);
                self.stats.late += 1;
            }
            Seen::Blocked => {
                self.durations.add_at_most(duration);
                self.blocked_in_a_row = self.blocked_in_a_row.wrapping_add(1);
                // The runtime's waits say nothing of sleeps.
                self.late_in_a_row = 0;
            }
            Seen::Found => {}
        }
        self.stats.done += 1;
    }
}

/// A class.
#[derive(Debug)]
pub struct Class {
    /// As it was opened.
    pub options: ClassOptions,
    /// Its number where the system can see it, 0 where it has none.
    pub(crate) number: u32,
    /// Memory of its jobs.
    pub arena: Arena,
    learnt: Mutex<Learnt>,
}

/// By which part of the expected duration to wake up earlier, where jobs had ended before the sleep did. One sleep that was too
/// long is chance where durations are exact; where none is, each is an upper bound, and the first wake-up is earlier already.
const fn earlier(has_exact: bool, late_in_a_row: u32) -> u64 {
    match (has_exact, late_in_a_row) {
        (true, 0 | 1) => u64::MAX,
        (true, 2) => 32,
        (true, 3) => 16,
        (true, 4) | (false, 0) => 8,
        (true, 5) | (false, 1) => 4,
        (true | false, _) => 2,
    }
}

/// To look for so long is cheap whatever a job takes, nanoseconds.
const LITTLE: u64 = 100_000;
/// How long one looks beyond the longest duration, nanoseconds.
const PATIENCE: u64 = 20_000;

impl Class {
    /// One that has learnt nothing.
    pub fn new(options: ClassOptions, debug: bool) -> Self {
        let arena = Arena::new(options.bytes, debug);
        let number = identity::number_of(&options.label);
        Self { options, number, arena, learnt: Mutex::default() }
    }

    /// From now on the calling thread works for this class, until [`identity::leave`].
    pub fn enter(&self) {
        identity::enter(self.number);
    }

    fn learnt(&self) -> MutexGuard<'_, Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was recorded for jobs of this class.
    pub(crate) fn graph(&self) -> Option<Arc<Graph>> {
        self.learnt().graph.clone()
    }

    /// It was recorded, with memory that it uses from now on. Of two that recorded at once the first stays, and the other's memory is
    /// its own.
    pub(crate) fn keep_graph(&self, graph: &Arc<Graph>, memory: &mut Memory) {
        let mut learnt = self.learnt();
        if learnt.graph.is_none() {
            learnt.graph = Some(Arc::clone(graph));
            learnt.recorded = std::mem::take(memory);
        }
    }

    /// Changes what is counted.
    pub(crate) fn count(&self, change: impl FnOnce(&mut ClassStats)) {
        self.change(|learnt| change(&mut learnt.stats));
    }

    /// Changes what was learnt; what is counted grows where the system can see it, too.
    fn change(&self, change: impl FnOnce(&mut Learnt)) {
        let mut learnt = self.learnt();
        let before = learnt.stats;
        change(&mut learnt);
        let after = learnt.stats;
        drop(learnt);
        let grown = Grown {
            begun: after.begun - before.begun,
            done: after.done - before.done,
            failed: after.failed - before.failed,
        };
        if grown != Grown::default() {
            identity::counted(self.number, grown);
        }
    }

    /// What was counted.
    pub fn stats(&self) -> ClassStats {
        let learnt = self.learnt();
        let duration = learnt.durations.median().unwrap_or_default();
        ClassStats { duration, arena: self.arena.stats(), ..learnt.stats }
    }

    /// A job took so long.
    pub(crate) fn took(&self, duration: u64, seen: Seen) {
        self.change(|learnt| learnt.took(duration, seen));
    }

    /// A sleep that should have ended at `wanted` and ended at `ended`.
    pub(crate) fn slept(&self, wanted: u64, ended: u64) {
        let mut learnt = self.learnt();
        learnt.oversleep.add(wanted, ended);
        learnt.stats.sleeps += 1;
    }
    /// When to look; `None` while nothing is known. Sleepers of an event loop bring what they have learnt of their sleep.
    pub(crate) fn plan(&self, of_loop: Option<&Oversleep>) -> Option<Plan> {
        let learnt = self.learnt();
        let durations = &learnt.durations;
        if durations.len() < LEAST {
            return None;
        }
        let first = durations.wake_up(self.options.lateness)?;
        let expected = first - first / earlier(durations.has_exact(), learnt.late_in_a_row);
        let wake = wake_after(expected, of_loop.unwrap_or(&learnt.oversleep));
        let [middle, last] = [durations.median(), durations.greatest()].map(Option::unwrap_or_default);
        // On average one looks from the wake-up to the middle.
        let looking = middle.saturating_sub(wake_after(first, of_loop.unwrap_or(&learnt.oversleep)));
        // Every 32nd wait in the runtime is one that looks, for durations may have changed.
        let is_tried = learnt.blocked_in_a_row % REMEMBERED as u32 == REMEMBERED as u32 - 1;
        let is_wide = looking > LITTLE && looking > middle / 4 && !is_tried;
        Some(Plan { wake, nap: last.max(expected) + PATIENCE, is_wide })
    }

    /// Gives its memory back, that of jobs in flight when they end, and forgets what was recorded.
    ///
    /// # Errors
    /// What the runtime says to a debugging context.
    pub(crate) fn close(&self, backend: &dyn Backend) -> Result<()> {
        let mut learnt = self.learnt();
        let (graph, mut recorded) = (learnt.graph.take(), std::mem::take(&mut learnt.recorded));
        drop(learnt);
        // Where a job may still submit it, its memory stays until the process ends.
        if graph.is_none_or(|graph| Arc::strong_count(&graph) == 1) {
            self.arena.give_back(backend, &mut recorded)?;
        }
        self.arena.close(backend)
    }

    /// See [`ClassOptions::watchdog`].
    pub(crate) fn watchdog(&self) -> u64 {
        const USUAL: u64 = 100_000_000;
        if self.options.watchdog == 0 { USUAL } else { self.options.watchdog }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(lateness: u32) -> Class {
        Class::new(ClassOptions { lateness, ..ClassOptions::default() }, false)
    }

    fn seen(is_exact: bool) -> Seen {
        if is_exact { Seen::Ending } else { Seen::Late }
    }

    #[test]
    fn what_had_always_ended_before_is_looked_for_earlier_until_it_is_seen_to_end() {
        let class = class(0);
        assert_eq!(class.plan(None), None);
        // Blocking waits of 1 ms end 200 µs late.
        (0..8).for_each(|_| class.took(1_200_000, Seen::Blocked));
        let mut wakes = Vec::new();
        for _ in 0..20 {
            let wake = class.plan(None).unwrap().wake;
            wakes.push(wake);
            let ended = wake + 6_000;
            class.took(ended.max(1_000_000), seen(ended < 1_000_000));
        }
        assert!(wakes.iter().filter(|wake| **wake + 6_000 >= 1_000_000).count() < 3, "{wakes:?}");
        let last = wakes[19];
        assert!((985_000..1_000_000).contains(&last), "it settles just before the end: {wakes:?}");
    }

    #[test]
    fn jobs_that_become_shorter_are_found_again() {
        let class = class(0);
        (0..32).for_each(|_| class.took(1_000_000, Seen::Ending));
        let mut late = 0;
        for _ in 0..64 {
            let ended = class.plan(None).unwrap().wake + 6_000;
            late += u32::from(ended >= 100_000);
            class.took(ended.max(100_000), seen(ended < 100_000));
        }
        assert!(late < 24, "{late} of 64 were late");
    }

    #[test]
    fn a_class_that_became_shorter_or_narrow_is_tried_again() {
        let class = class(0);
        (0..32).for_each(|number| class.took(if number % 2 == 0 { 400_000 } else { 2_000_000 }, Seen::Ending));
        assert!(class.plan(None).unwrap().is_wide);
        let mut tried = 0;
        for _ in 0..100 {
            let is_wide = class.plan(None).unwrap().is_wide;
            tried += u32::from(!is_wide);
            class.took(430_000, if is_wide { Seen::Blocked } else { Seen::Ending });
        }
        assert!(tried > 50, "{tried}");
    }

    #[test]
    fn a_wide_spread_leaves_nothing_to_gain() {
        let of = |values: &[u64]| {
            let class = class(0);
            (0..32).for_each(|number| class.took(values[number % values.len()], Seen::Ending));
            class.plan(None).unwrap()
        };
        assert!(!of(&[1_000_000]).is_wide);
        assert!(of(&[500_000, 800_000, 1_000_000, 1_400_000]).is_wide);
        // Of short jobs there is little to look at in any case.
        assert!(!of(&[50_000, 80_000, 100_000, 140_000]).is_wide);
        assert_eq!(of(&[1_000_000, 1_300_000]).nap, 1_320_000);
    }
}
