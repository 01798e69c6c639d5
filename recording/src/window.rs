//! The flight recorder: keeps the last seconds of events in memory, and writes them when something happens.

use std::{collections::VecDeque, time::Duration};

use gpuos_tracer_abi::{
    events::Call,
    syscalls::{CallOutcome, outcome_of},
};

use crate::{
    event::{Event, returns_foreign_value},
    journal,
    replay::TraceState,
};

/// What makes the flight recorder write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A call that took longer.
    Slower(Duration),
    /// A call that returned an error.
    Error,
    /// A call whose driver wrote a status that is not success.
    Status,
    /// The end of a phase of this path.
    PhaseEnd(String),
}

impl std::str::FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "error" => Ok(Self::Error),
            None if text == "status" => Ok(Self::Status),
            Some(("slower", duration)) => duration_of(duration).map(Self::Slower),
            Some(("phase", path)) if !path.is_empty() => Ok(Self::PhaseEnd(path.to_owned())),
            _ => Err("it is `slower=TIME`, `error`, `status` or `phase=PATH`".to_owned()),
        }
    }
}

/// From a number and its unit: `10ms`.
///
/// # Errors
/// What is expected.
pub fn duration_of(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "a time is a number with ns, us, ms, s or m, such as 30s".to_owned())
}

/// How much is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of time.
    pub window: Duration,
    /// Of memory, in bytes; the oldest goes first.
    pub bytes: usize,
    /// What makes it write besides a signal and the end.
    pub triggers: Vec<Trigger>,
}

/// Events of the last seconds.
#[derive(Debug)]
pub struct Window {
    limits: Limits,
    /// What was drained at once, and when.
    chunks: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// When the window begins, once something older was forgotten.
    begin_ns: Option<u64>,
    /// What is known from events that are not kept any more.
    before: TraceState,
    /// And from all of them, for the triggers.
    now: TraceState,
}

impl Window {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let (before, now) = (TraceState::default(), TraceState::default());
        Self { limits, chunks: VecDeque::new(), bytes: 0, begin_ns: None, before, now }
    }

    /// Adds records that were read at a moment, and says whether one of them is to make it write.
    pub fn add(&mut self, records: &[u8], now_ns: u64) -> bool {
        let mut fires = false;
        if !self.limits.triggers.is_empty() {
            let Self { limits, now, .. } = self;
            // The kernel's records are well formed.
            let _ = journal::records(records, &mut |bytes: &[u8]| {
                fires |= Event::parse(bytes).is_some_and(|event| triggers(&limits.triggers, now, &event));
            });
        }
        if !records.is_empty() {
            self.bytes += records.len();
            self.chunks.push_back((now_ns, records.to_vec()));
        }
        let oldest = now_ns.saturating_sub(self.limits.window.as_nanos() as u64);
        // The newest piece stays, however large.
        let least = usize::from(!records.is_empty());
        while self.chunks.len() > least
            && self.chunks.front().is_some_and(|(at_ns, _)| *at_ns < oldest || self.bytes > self.limits.bytes)
        {
            self.forget_oldest();
        }
        self.begin_ns = self.begin_ns.map(|begin_ns| begin_ns.max(oldest));
        fires
    }

    /// Keeps of the oldest chunk only what is to be known of it later.
    fn forget_oldest(&mut self) {
        let Some((at_ns, records)) = self.chunks.pop_front() else { return };
        self.begin_ns = Some(at_ns);
        self.bytes -= records.len();
        let _ = journal::records(&records, &mut |bytes: &[u8]| {
            if let Some(event) = Event::parse(bytes) {
                self.before.follow(&event);
            }
        });
    }

    /// What a journal of the window holds.
    #[must_use]
    pub fn records(&self) -> Vec<u8> {
        let mut records = Vec::with_capacity(self.bytes);
        let begin_ns = self.begin_ns.or_else(|| self.chunks.front().map(|(at_ns, _)| *at_ns)).unwrap_or(0);
        self.before.write(begin_ns, &mut records);
        self.chunks.iter().for_each(|(_, chunk)| records.extend_from_slice(chunk));
        records
    }

    /// Forgets all but what is known: the next window begins now.
    pub fn clear(&mut self) {
        while !self.chunks.is_empty() {
            self.forget_oldest();
        }
    }
}

fn triggers(wanted: &[Trigger], state: &mut TraceState, event: &Event) -> bool {
    let of_call = |call: &Call, status: u32| {
        let is_error = outcome_of(call.returned) == CallOutcome::Error && !returns_foreign_value(call);
        wanted.iter().any(|trigger| match trigger {
            Trigger::Slower(limit) => u128::from(call.duration_ns) > limit.as_nanos(),
            Trigger::Error => is_error,
            Trigger::Status => status != 0,
            Trigger::PhaseEnd(_) => false,
        })
    };
    match event {
        Event::Call(call) => of_call(call, 0),
        Event::PathCall(call) => of_call(&call.call, 0),
        Event::DeviceCall(call) => of_call(&call.call, call.status),
        Event::Lifecycle(_) | Event::Phase(_) | Event::Switch(_) | Event::Fault(_) | Event::Job(_) | Event::Gap(_) => {
            let ended = state.follow(event);
            let ended = ended.iter().filter(|change| !change.began).map(|change| state.phase_path_text(change.phase));
            let ended: Vec<String> = ended.collect();
            wanted.iter().any(|trigger| matches!(trigger, Trigger::PhaseEnd(path) if ended.contains(path)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::head_before;
    use gpuos_tracer_abi::{
        events::{CALL, END, Lifecycle, PHASE, PROCESS, PhaseChange},
        phases::{LABEL, OPERATION_BEGIN, OPERATION_END},
    };

    fn call(at_ns: u64, duration_ns: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        journal::append(&mut bytes, &Call { head: head_before(at_ns, 7, 7, 1, CALL), duration_ns, ..Call::default() });
        bytes
    }

    fn phase(operation: u32, begun: u32) -> Vec<u8> {
        let mut label = [0; LABEL];
        label[..4].copy_from_slice(b"work");
        let mut bytes = Vec::new();
        let head = head_before(2, 7, 7, 0, PHASE);
        journal::append(&mut bytes, &PhaseChange { head, operation, scope: 0, count: 0, begun, parent: 0, label });
        bytes
    }

    fn limits(triggers: &[&str]) -> Limits {
        let triggers = triggers.iter().map(|text| text.parse().unwrap()).collect();
        Limits { window: Duration::from_nanos(100), bytes: 1 << 20, triggers }
    }

    #[test]
    fn what_is_old_goes_and_what_is_known_stays() {
        let mut window = Window::new(limits(&[]));
        let mut begin = Vec::new();
        let comm = *b"bench\0\0\0\0\0\0\0\0\0\0\0";
        let life = Lifecycle { head: head_before(1, 7, 7, 0, PROCESS), process: 77, comm, ..Lifecycle::default() };
        journal::append(&mut begin, &life);
        window.add(&begin, 1);
        window.add(&phase(OPERATION_BEGIN, 1), 2);
        window.add(&call(3, 1), 3);
        window.add(&call(150, 1), 150);
        let mut state = TraceState::default();
        let mut calls = Vec::new();
        journal::records(&window.records(), &mut |bytes: &[u8]| {
            let event = Event::parse(bytes).unwrap();
            state.follow(&event);
            if let Event::Call(call) = event {
                calls.push(call.head.at_ns);
            }
        })
        .unwrap();
        assert_eq!(calls, [150]);
        assert_eq!((state.process(7), state.phase_path_text(1).as_str()), (77, "work"));
        let name = state.thread_name(7);
        assert_eq!(state.strings.get(name), "bench");
        // A thread that has ended leaves nothing behind.
        let mut end = Vec::new();
        journal::append(&mut end, &Lifecycle { head: head_before(160, 7, 7, 0, END), ..Lifecycle::default() });
        window.add(&end, 160);
        window.add(&call(1000, 1), 1000);
        window.clear();
        let mut left = 0;
        journal::records(&window.records(), &mut |_: &[u8]| left += 1).unwrap();
        // The label of the phase.
        assert_eq!(left, 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut window = Window::new(Limits { bytes: 1000, window: Duration::from_secs(1), triggers: Vec::new() });
        (0..100).for_each(|at| {
            window.add(&call(at, 1), at);
        });
        assert!(window.records().len() <= 1000);
    }

    #[test]
    fn triggers_fire() {
        let mut window = Window::new(limits(&["slower=10us", "phase=work"]));
        assert!(!window.add(&call(1, 10_000), 1));
        assert!(window.add(&call(2, 10_001), 2));
        assert!(!window.add(&phase(OPERATION_BEGIN, 1), 3));
        assert!(window.add(&phase(OPERATION_END, 0), 4));
        assert!(!window.add(&phase(OPERATION_END, 0), 5));
        for wrong in ["", "slower", "slower=", "slower=0ms", "slower=5", "phase=", "other"] {
            assert!(wrong.parse::<Trigger>().is_err(), "{wrong}");
        }
    }
}
