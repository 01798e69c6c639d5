//! The second way to follow tasks: known by their number in a hash, events through perf's tracepoints.
//!
//! Slower than task storage and BTF tracepoints, and needed at both ends of the range of kernels. Before 5.15
//! there is no `bpf_task_pt_regs`, and before 5.11 no task storage for tracing programs. From 7.0 on BTF tracepoints run preemptibly, and while a task that was
//! preempted inside a program waits, the kernel skips that program for all others on that CPU; perf's tracepoints
//! run with preemption off. See `docs/decisions/0007-tasks-by-id.md`.

use gpuos_host::environment::{self, kernel_version};
use gpuos_tracer_abi::settings::TracepointOffsets;

use super::{error::LoadError, offsets::task_registers_helper, perf_tracepoints::Events};

/// Tracepoint programs run preemptibly from here on.
const PREEMPTIBLE: (u32, u32) = (7, 0);

/// Numbers of the tracepoints, and what differs between kernels in their records.
#[derive(Debug)]
pub(super) struct ByTid {
    pub(super) fork: u64,
    pub(super) exec: u64,
    pub(super) exit: u64,
    pub(super) call_enter: u64,
    pub(super) call_exit: u64,
    /// `sched_switch` and `page_fault_user`, where the kernel has them.
    switch: Option<u64>,
    fault: Option<u64>,
    pub(super) offsets: TracepointOffsets,
    /// The kernel gives programs no typed pointer to the current task.
    pub(super) plain_pointers: bool,
}

impl ByTid {
    /// Number of a tracepoint that only recordings want.
    pub(super) fn point(&self, name: &str) -> Option<u64> {
        match name {
            "sched_switch" => self.switch,
            "page_fault_user" => self.fault,
            _ => None,
        }
    }
}

/// Threads of a running process can be given task storage from here on (`PIDFD_THREAD`).
const THREADS_BY_PIDFD: (u32, u32) = (6, 9);

/// Whether tracepoint programs are preempted on this kernel.
pub(super) fn is_preemptible() -> bool {
    kernel_version() >= PREEMPTIBLE
}

/// What this kernel needs, or was asked for. `has_btf`: it shows type information.
///
/// # Errors
/// When it is needed and this user may not see the kernel's tracepoints, or is in a container.
pub(super) fn choose(asked: bool, attaching: bool, has_btf: bool) -> Result<Option<ByTid>, LoadError> {
    let version = kernel_version();
    let old = !has_btf || !task_registers_helper();
    let better = version >= PREEMPTIBLE || attaching && version < THREADS_BY_PIDFD;
    if !asked && !old && !better {
        return Ok(None);
    }
    if environment::in_pid_namespace() {
        // Processes have other numbers here than the kernel side sees.
        return if asked || old { Err(LoadError::InContainer) } else { Ok(None) };
    }
    match find(old) {
        Some(found) => Ok(Some(found)),
        // They may miss events, and then say so.
        None if !asked && !old => Ok(None),
        None if !LoadError::has_capabilities() => {
            let refused = std::io::Error::from_raw_os_error(libc::EACCES);
            Err(LoadError::from_step("finding the kernel's tracepoints", &refused))
        }
        None => Err(LoadError::NoTracepoints),
    }
}

fn find(plain_pointers: bool) -> Option<ByTid> {
    let events = Events::open()?;
    let (fork, exec) = ("sched/sched_process_fork", "sched/sched_process_exec");
    let (switch, fault) = ("sched/sched_switch", "exceptions/page_fault_user");
    let optional = |event, field| events.offset(event, field).unwrap_or(0);
    Some(ByTid {
        fork: events.id(fork)?,
        exec: events.id(exec)?,
        exit: events.id("sched/sched_process_exit")?,
        call_enter: events.id("raw_syscalls/sys_enter")?,
        call_exit: events.id("raw_syscalls/sys_exit")?,
        switch: events.id(switch),
        fault: events.id(fault),
        offsets: TracepointOffsets {
            fork_child: events.offset(fork, "child_pid")?,
            exec_before: events.offset(exec, "old_pid")?,
            switch_state: optional(switch, "prev_state"),
            switch_next: optional(switch, "next_pid"),
            fault_address: optional(fault, "address"),
            fault_code: optional(fault, "error_code"),
        },
        plain_pointers,
    })
}
