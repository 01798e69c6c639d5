//! Kernels that show no type information: what the walk of `descriptors.rs` cannot find there is followed from call to
//! call. A descriptor is known from the path that was opened; what was inherited, or came over a socket, is not.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_ANY,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_probe_read_user, bpf_probe_read_user_str},
    },
    programs::TracePointContext,
};
use gpuos_tracer_abi::{
    followed::{Descriptor, DevicePath, Opened},
    ioctl::NOT_FOLLOWED,
    tasks::{EXIT_UNKNOWN, SLOT_NONE, ThreadState},
};

use crate::{
    kernel::{self, call_number},
    maps::{DESCRIPTORS, DEVICE_PATHS},
    tasks,
};

// `O_PATH` and `O_CLOEXEC` of `asm-generic/fcntl.h`, the same on x86 and arm.
const OPENED_AS_PATH: u64 = 0o10_000_000;
const CLOSED_ON_EXECUTION: u64 = 0o2_000_000;
// Commands of `fcntl`.
const DUPLICATE: u64 = 0;
const SET_FLAGS: u64 = 2;
const DUPLICATE_CLOSED_ON_EXECUTION: u64 = 1030;
// `FIOCLEX` and `FIONCLEX` of `asm-generic/ioctls.h`.
const FLAG_SET: u64 = 0x5451;
const FLAG_CLEARED: u64 = 0x5450;
/// `CLOSE_RANGE_CLOEXEC` of `linux/close_range.h`.
const RANGE_ON_EXECUTION: u64 = 4;
/// As many descriptors of a range that is closed are looked at.
const RANGE: u64 = 256;
/// In the record of `raw_syscalls/sys_enter`.
const ARGUMENTS: usize = 16;

/// Keeps what the entry of a call tells, and forgets what it closes: when it has returned, another thread may have the
/// number.
#[inline(always)]
pub(crate) fn call_entered(ctx: &TracePointContext, thread: &mut ThreadState, number: u32) {
    thread.number = number;
    for (place, argument) in thread.arguments.iter_mut().enumerate() {
        // SAFETY: inside the record.
        *argument = unsafe { *ctx.as_ptr().cast::<u8>().add(ARGUMENTS + 8 * place).cast::<u64>() };
    }
    if number == call_number::close() || number == call_number::close_range() {
        closing();
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn closing() -> u32 {
    let Some(thread) = tasks::state_of(kernel::current_task()) else { return 0 };
    if kernel::is_compat(kernel::current_task()) {
        return 0;
    }
    let [first, last, flags, ..] = thread.arguments;
    if thread.number == call_number::close() {
        let _ = DESCRIPTORS.remove(&descriptor(first as u32));
        return 0;
    }
    for place in 0..RANGE {
        let number = first + place;
        if number > last {
            break;
        }
        if flags & RANGE_ON_EXECUTION == 0 {
            let _ = DESCRIPTORS.remove(&descriptor(number as u32));
        } else {
            keep(number as u32, false);
        }
    }
    0
}

/// Follows a call that has returned: what it has opened or duplicated.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn call_returned(number: u32, returned: i64) -> u32 {
    let task = kernel::current_task();
    let Some(thread) = tasks::state_of(task) else { return 0 };
    if returned < 0 || kernel::is_compat(task) {
        return 0;
    }
    let made = returned as u32;
    let [first, second, third, ..] = thread.arguments;
    if number == call_number::openat() {
        opened(made, second, third);
    } else if number == call_number::open() {
        opened(made, first, second);
    } else if number == call_number::creat() {
        opened(made, first, 0);
    } else if number == call_number::openat2() {
        let mut flags = 0_u64;
        // SAFETY: the helper writes no more than the value holds.
        unsafe { bpf_probe_read_user((&raw mut flags).cast(), size_of::<u64>() as u32, third as *const _) };
        opened(made, second, flags);
    } else if number == call_number::dup() {
        duplicated(first as u32, made, true);
    } else if number == call_number::dup2() {
        if first as u32 != made {
            duplicated(first as u32, made, true);
        }
    } else if number == call_number::dup3() {
        duplicated(first as u32, made, third & CLOSED_ON_EXECUTION == 0);
    } else if number == call_number::fcntl() {
        match second {
            DUPLICATE | DUPLICATE_CLOSED_ON_EXECUTION => duplicated(first as u32, made, second == DUPLICATE),
            SET_FLAGS => keep(first as u32, third & 1 == 0),
            _ => {}
        }
    } else if number == call_number::ioctl() && (second == FLAG_SET || second == FLAG_CLEARED) {
        keep(first as u32, second == FLAG_CLEARED);
    }
    0
}

#[inline(always)]
fn descriptor(number: u32) -> Descriptor {
    Descriptor { pid: (bpf_get_current_pid_tgid() >> 32) as u32, number }
}

/// The current process's id, and how many programs it has executed.
#[inline(always)]
fn process() -> Option<(u64, u32)> {
    let id = tasks::state_of(kernel::current_task())?.process;
    Some((id, tasks::record(id)?.executions))
}

/// What a path leads to is open now.
#[inline(always)]
fn opened(number: u32, path: u64, flags: u64) {
    let mut name: DevicePath = [0; _];
    // SAFETY: the helper writes no more than the name holds, with a zero at its end.
    let length =
        unsafe { bpf_probe_read_user_str((&raw mut name).cast(), size_of::<DevicePath>() as u32, path as *const _) };
    let device = if length > 0 && flags & OPENED_AS_PATH == 0 { DEVICE_PATHS.get_ptr(&name) } else { None };
    // SAFETY: the map returned it.
    let device = device.map_or(NOT_FOLLOWED, |device| unsafe { *device });
    set(number, device, flags & CLOSED_ON_EXECUTION == 0);
}

/// Another descriptor of the same file.
#[inline(always)]
fn duplicated(from: u32, to: u32, is_kept: bool) {
    set(to, device_of(from), is_kept);
}

#[inline(always)]
fn set(number: u32, device: u32, is_kept: bool) {
    let key = descriptor(number);
    // What was there before may have been closed in a way that is not followed.
    let _ = DESCRIPTORS.remove(&key);
    if device != NOT_FOLLOWED
        && let Some((process, executions)) = process()
    {
        let opened = Opened { process, device, executions, is_kept: is_kept.into(), padding: 0 };
        let _ = DESCRIPTORS.insert(&key, &opened, BPF_ANY.into());
    }
}

/// Whether it stays open when another program is executed.
#[inline(always)]
fn keep(number: u32, is_kept: bool) {
    let (Some(opened), Some((_, executions))) = (DESCRIPTORS.get_ptr_mut(&descriptor(number)), process()) else {
        return;
    };
    // SAFETY: the map returned it.
    unsafe {
        (*opened).is_kept = is_kept.into();
        (*opened).executions = executions;
    }
}

/// What a descriptor of the current process is.
#[inline(always)]
pub(crate) fn device_of(number: u32) -> u32 {
    let (Some(opened), Some((process, executions))) = (DESCRIPTORS.get_ptr(&descriptor(number)), process()) else {
        return NOT_FOLLOWED;
    };
    // SAFETY: the map returned it.
    let opened: &Opened = unsafe { &*opened };
    if opened.process != process || opened.is_kept == 0 && opened.executions != executions {
        return NOT_FOLLOWED;
    }
    opened.device
}

/// Exit code of a thread that ends, by the call that ends it, and whether that ends its process.
#[inline(always)]
pub(crate) fn exit_code_of(thread: &ThreadState) -> (bool, u32) {
    let of_group = thread.number == call_number::exit_group();
    if thread.slot == SLOT_NONE || !of_group && thread.number != call_number::exit() {
        return (false, EXIT_UNKNOWN);
    }
    (of_group, (thread.arguments[0] as u32 & 0xff) << 8)
}
