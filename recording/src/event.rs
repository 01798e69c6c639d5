//! Events as they are read: the bytes of the ring or of a journal, which may hold anything.

use bytemuck::AnyBitPattern;
use gpuos_tracer_abi::{
    events::{
        CALL, COMPAT, Call, DEVICE_CALL, DeviceCall, END, EXEC, EventHeader, FAULT, Fault, GAP, Gap, JOB, Job,
        Lifecycle, NAME, PATH_CALL, PHASE, PROCESS, PathCall, PhaseChange, SWITCH, Switch, THREAD,
    },
    syscalls::{COMPAT_RT_SIGRETURN, COMPAT_SIGRETURN},
};

/// One event.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A system call.
    Call(Call),
    /// One on a GPU driver.
    DeviceCall(DeviceCall),
    /// One that is about a path.
    PathCall(PathCall),
    /// A step in the life of a thread.
    Lifecycle(Lifecycle),
    /// A marker.
    Phase(PhaseChange),
    /// A time in which a thread did not run.
    Switch(Switch),
    /// A page fault.
    Fault(Fault),
    /// A job has ended.
    Job(Job),
    /// Events were lost.
    Gap(Gap),
}

impl Event {
    /// From its bytes. `None` for a kind that nobody knows, and for too few bytes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let head: EventHeader = read(bytes)?;
        Some(match head.kind {
            CALL => Self::Call(read(bytes)?),
            DEVICE_CALL => Self::DeviceCall(read(bytes)?),
            PATH_CALL => Self::PathCall(read(bytes)?),
            PROCESS | THREAD | EXEC | NAME | END => Self::Lifecycle(read(bytes)?),
            PHASE => Self::Phase(read(bytes)?),
            SWITCH => Self::Switch(read(bytes)?),
            FAULT => Self::Fault(read(bytes)?),
            JOB => Self::Job(read(bytes)?),
            GAP => Self::Gap(read(bytes)?),
            _ => return None,
        })
    }

    /// What every event has.
    #[must_use]
    pub const fn head(&self) -> &EventHeader {
        match self {
            Self::Call(call) => &call.head,
            Self::DeviceCall(call) => &call.call.head,
            Self::PathCall(call) => &call.call.head,
            Self::Lifecycle(life) => &life.head,
            Self::Phase(phase) => &phase.head,
            Self::Switch(switch) => &switch.head,
            Self::Fault(fault) => &fault.head,
            Self::Job(job) => &job.head,
            Self::Gap(gap) => &gap.head,
        }
    }
}

/// Whether a call returns a value of the code that a signal interrupted, which is no result of its own.
#[must_use]
pub fn returns_foreign_value(call: &Call) -> bool {
    if call.head.flags & COMPAT != 0 {
        matches!(call.number, COMPAT_SIGRETURN | COMPAT_RT_SIGRETURN)
    } else {
        i64::from(call.number) == libc::SYS_rt_sigreturn
    }
}

/// The value at the beginning of some bytes, which may be more than it has.
fn read<T: AnyBitPattern>(bytes: &[u8]) -> Option<T> {
    Some(bytemuck::pod_read_unaligned(bytes.get(..size_of::<T>())?))
}

/// Head of a record that stands for what happened before.
pub(crate) fn head_before(at_ns: u64, pid: u32, thread: u32, phase: u32, kind: u8) -> EventHeader {
    EventHeader { at_ns, pid, thread, phase, kind, flags: 0, padding: 0 }
}
