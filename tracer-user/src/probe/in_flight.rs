//! The calls that threads are in when a recording ends.

use std::{collections::HashMap, os::fd::OwnedFd};

use gpuos_host::{environment, fds::pidfd_open, processes::numbers_in};
use gpuos_tracer_abi::{
    events::{CALL, COMPAT, Call, EventHeader, UNFINISHED},
    syscalls::ABI_COMPAT,
    tasks::{SLOT_NONE, SLOT_SKIPPED, STAGE_RUNNING, ThreadState},
};

use super::{error::LoadError, load::Tracer, snapshot::Counters};

impl Tracer {
    /// The calls that threads are in, of the processes that are alive. To be called when nothing moves any more. Linux
    /// 5.15 to 6.8 tell those of first threads only.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn calls_in_flight(&self, counters: &Counters) -> Result<Vec<Call>, LoadError> {
        let step = |error| LoadError::from_step("reading the calls in flight", &error);
        let now_ns = environment::monotonic_ns();
        let records = counters.processes().map_err(step)?;
        let alive: HashMap<u64, u32> = records
            .into_iter()
            .filter(|(_, process)| process.threads_alive != 0)
            .map(|(id, process)| (id, process.pid))
            .collect();
        // In a container processes have other numbers than in the kernel. Whoever has state is traced, whatever its number.
        let seen =
            if environment::in_pid_namespace() { numbers_in("/proc") } else { alive.values().copied().collect() };
        let mut calls = Vec::new();
        for pid in seen {
            for thread in numbers_in(&format!("/proc/{pid}/task")) {
                // It ended meanwhile, is not traced, or cannot be asked.
                let Ok(state) = self.state_of(thread, || thread_fd(pid, thread)) else { continue };
                let is_in_call = state.stage == STAGE_RUNNING && !matches!(state.slot, SLOT_NONE | SLOT_SKIPPED);
                if let Some(&number) = alive.get(&state.process).filter(|_| is_in_call) {
                    // A thread that executed has the number of its process.
                    let own = if thread == pid { number } else { state.thread };
                    calls.push(call_in_flight(&state, number, own, now_ns));
                }
            }
        }
        Ok(calls)
    }
}

/// An fd of a thread, whoever has the number: only traced ones have state.
fn thread_fd(pid: u32, thread: u32) -> std::io::Result<OwnedFd> {
    pidfd_open(thread, if thread == pid { 0 } else { libc::O_EXCL })
}

fn call_in_flight(state: &ThreadState, pid: u32, thread: u32, now_ns: u64) -> Call {
    let compat = if state.abi == ABI_COMPAT { COMPAT } else { 0 };
    let head = EventHeader {
        at_ns: state.entered_ns,
        pid,
        thread,
        phase: state.phase,
        kind: CALL,
        flags: UNFINISHED | compat,
        padding: 0,
    };
    Call {
        head,
        duration_ns: now_ns.saturating_sub(state.entered_ns),
        returned: 0,
        arguments: state.first_arguments(),
        number: state.number,
        device: state.pending.device,
    }
}
