//! Kernels that show no type information: what the walk of `descriptors.rs` cannot find there is followed from call to
//! call. A descriptor is known from the path that was opened. Whatever is not understood makes it unknown, never another.

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
    followed::{Descriptor, DevicePath, EXIT_KNOWN, OTHER_PATHS, OTHER_TABLE, Opened},
    ioctl::NOT_FOLLOWED,
    tasks::{EXIT_UNKNOWN, ProcessRecord, SLOT_NONE, ThreadState},
};

use crate::{
    kernel::{self, call_number},
    maps::{DESCRIPTORS, DEVICE_PATHS},
    tasks,
};

// `O_PATH` and `O_CLOEXEC` of `asm-generic/fcntl.h`, the same on x86 and arm.
const OPENED_AS_PATH: u64 = 0o10_000_000;
const CLOSED_ON_EXECUTION: u64 = 0o2_000_000;
/// `RESOLVE_IN_ROOT` of `linux/openat2.h`.
const RESOLVED_ELSEWHERE: u64 = 0x10;
// Commands of `fcntl`.
const DUPLICATE: u32 = 0;
const SET_FLAGS: u32 = 2;
const DUPLICATE_CLOSED_ON_EXECUTION: u32 = 1030;
// `FIOCLEX` and `FIONCLEX` of `asm-generic/ioctls.h`.
const FLAG_SET: u32 = 0x5451;
const FLAG_CLEARED: u32 = 0x5450;
/// `CLOSE_RANGE_UNSHARE` of `linux/close_range.h`.
const RANGE_OF_OWN: u32 = 2;
// `CLONE_FILES`, `CLONE_THREAD` and `CLONE_NEWNS` of `linux/sched.h`.
const SHARED_FILES: u64 = 0x400;
const OF_PROCESS: u64 = 0x10000;
const OTHER_MOUNTS: u64 = 0x20000;
/// In the record of `raw_syscalls/sys_enter`.
const ARGUMENTS: usize = 16;

/// Keeps what the entry of a call tells.
#[inline(always)]
pub(crate) fn call_entered(ctx: &TracePointContext, thread: &mut ThreadState, number: u32) {
    thread.number = number;
    for (place, argument) in thread.arguments.iter_mut().enumerate() {
        // SAFETY: inside the record.
        *argument = unsafe { *ctx.as_ptr().cast::<u8>().add(ARGUMENTS + 8 * place).cast::<u64>() };
    }
    if is_duplicating(number)
        || is_opening(number)
        || number == call_number::close_range()
        || number == call_number::clone()
        || number == call_number::clone3()
        || number == call_number::unshare()
        || number == call_number::setns()
        || number == call_number::chroot()
        || number == call_number::pivot_root()
        || number == call_number::io_uring_setup()
        || number == call_number::exit_group()
        || kernel::is_compat(kernel::current_task())
    {
        entering();
    }
}

#[inline(always)]
fn is_opening(number: u32) -> bool {
    number == call_number::openat()
        || number == call_number::open()
        || number == call_number::creat()
        || number == call_number::openat2()
}

#[inline(always)]
fn is_duplicating(number: u32) -> bool {
    number == call_number::dup()
        || number == call_number::dup2()
        || number == call_number::dup3()
        || number == call_number::fcntl()
}

/// What a call means before it is made: the tables that it may change, and what its return must know.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn entering() -> u32 {
    let task = kernel::current_task();
    let Some(thread) = tasks::state_of(task) else { return 0 };
    let Some(process) = tasks::record(thread.process) else { return 0 };
    let number = thread.number;
    let [first, _, third, ..] = thread.arguments;
    if kernel::is_compat(task) || number == call_number::io_uring_setup() {
        // It may close by numbers of the other table, or by what it writes into a ring.
        process.not_followed |= OTHER_TABLE;
    } else if is_opening(number) {
        thread.at_entry = process.generation;
    } else if is_duplicating(number) {
        thread.at_entry = device_of(first as u32);
    } else if number == call_number::close_range() {
        process.generation += 1;
        if third as u32 & RANGE_OF_OWN != 0 {
            process.not_followed |= OTHER_TABLE;
        }
    } else if number == call_number::unshare() {
        if first & SHARED_FILES != 0 {
            process.not_followed |= OTHER_TABLE;
        }
        if first & OTHER_MOUNTS != 0 {
            process.not_followed |= OTHER_PATHS;
        }
    } else if number == call_number::clone() {
        cloning(process, first);
    } else if number == call_number::clone3() {
        // `flags` begins `struct clone_args`.
        cloning(process, word_of_program(first));
    } else if number == call_number::exit_group() {
        if process.not_followed & EXIT_KNOWN == 0 {
            process.exit_code = code_of(first);
            process.not_followed |= EXIT_KNOWN;
        }
    } else {
        // `setns`, `chroot`, `pivot_root`.
        process.not_followed |= OTHER_PATHS;
    }
    0
}

/// Threads share their table, processes have one each: what else there is, is not followed. A child inherits that.
#[inline(always)]
fn cloning(process: &mut ProcessRecord, flags: u64) {
    if (flags & SHARED_FILES != 0) != (flags & OF_PROCESS != 0) {
        process.not_followed |= OTHER_TABLE;
    }
    if flags & OTHER_MOUNTS != 0 {
        process.not_followed |= OTHER_PATHS;
    }
}

/// A descriptor is about to be closed: at the return another thread may have its number.
#[inline(always)]
pub(crate) fn closing(thread: &ThreadState) {
    let _ = DESCRIPTORS.remove(&descriptor(thread.arguments[0] as u32));
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
    let (made, at_entry) = (returned as u32, thread.at_entry);
    let [first, second, third, ..] = thread.arguments;
    let command = second as u32;
    if number == call_number::openat() {
        opened(made, second, third, at_entry);
    } else if number == call_number::open() {
        opened(made, first, second, at_entry);
    } else if number == call_number::creat() {
        opened(made, first, 0, at_entry);
    } else if number == call_number::openat2() {
        // `struct open_how`: flags, mode, resolve.
        let resolved = word_of_program(third + 16);
        opened(made, if resolved & RESOLVED_ELSEWHERE == 0 { second } else { 0 }, word_of_program(third), at_entry);
    } else if number == call_number::dup() || number == call_number::dup2() && first as u32 != made {
        set(made, at_entry, true);
    } else if number == call_number::dup3() {
        set(made, at_entry, third & CLOSED_ON_EXECUTION == 0);
    } else if number == call_number::fcntl() {
        match command {
            DUPLICATE | DUPLICATE_CLOSED_ON_EXECUTION => set(made, at_entry, command == DUPLICATE),
            SET_FLAGS => keep(first as u32, third & 1 == 0),
            _ => {}
        }
    } else if number == call_number::ioctl() && (command == FLAG_SET || command == FLAG_CLEARED) {
        keep(first as u32, command == FLAG_CLEARED);
    }
    0
}

/// A word of the program's memory; 0 where there is none.
#[inline(always)]
fn word_of_program(address: u64) -> u64 {
    let mut word = 0_u64;
    // SAFETY: the helper writes no more than the value holds.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), size_of::<u64>() as u32, address as *const _) };
    word
}

#[inline(always)]
fn descriptor(number: u32) -> Descriptor {
    Descriptor { pid: (bpf_get_current_pid_tgid() >> 32) as u32, number }
}

/// The current process's id and record.
#[inline(always)]
fn process() -> Option<(u64, &'static mut ProcessRecord)> {
    let id = tasks::state_of(kernel::current_task())?.process;
    Some((id, tasks::record(id)?))
}

/// What a path leads to is open now, unless many were closed since the call began.
#[inline(always)]
fn opened(number: u32, path: u64, flags: u64, generation: u32) {
    let mut name: DevicePath = [0; _];
    // SAFETY: the helper writes no more than the name holds, with a zero at its end.
    let length =
        unsafe { bpf_probe_read_user_str((&raw mut name).cast(), size_of::<DevicePath>() as u32, path as *const _) };
    let is_followed = process()
        .is_some_and(|(_, process)| process.not_followed & OTHER_PATHS == 0 && process.generation == generation);
    let device =
        if length > 0 && is_followed && flags & OPENED_AS_PATH == 0 { DEVICE_PATHS.get_ptr(&name) } else { None };
    // SAFETY: the map returned it.
    let device = device.map_or(NOT_FOLLOWED, |device| unsafe { *device });
    set(number, device, flags & CLOSED_ON_EXECUTION == 0);
}

#[inline(always)]
fn set(number: u32, device: u32, is_kept: bool) {
    let key = descriptor(number);
    // What was there before may have been closed in a way that is not followed.
    let _ = DESCRIPTORS.remove(&key);
    if device != NOT_FOLLOWED
        && let Some((id, process)) = process()
    {
        let (generation, executions) = (process.generation, process.executions);
        let opened = Opened { process: id, device, generation, executions, is_kept: is_kept.into() };
        let _ = DESCRIPTORS.insert(&key, &opened, BPF_ANY.into());
    }
}

/// What is open at a number, as far as that is known.
#[inline(always)]
fn open_at(number: u32) -> Option<&'static mut Opened> {
    let (id, process) = process()?;
    // SAFETY: the map returned it; it lives as long as the program.
    let opened = unsafe { &mut *DESCRIPTORS.get_ptr_mut(&descriptor(number))? };
    let is_of_now = opened.process == id && opened.generation == process.generation;
    let is_open = opened.is_kept != 0 || opened.executions == process.executions;
    (is_of_now && is_open && process.not_followed & OTHER_TABLE == 0).then_some(opened)
}

/// Whether it stays open when another program is executed.
#[inline(always)]
fn keep(number: u32, is_kept: bool) {
    if let (Some(opened), Some((_, process))) = (open_at(number), process()) {
        opened.is_kept = is_kept.into();
        opened.executions = process.executions;
    }
}

/// What a descriptor of the current process is.
#[inline(always)]
pub(crate) fn device_of(number: u32) -> u32 {
    open_at(number).map_or(NOT_FOLLOWED, |opened| opened.device)
}

/// A process executes another program: it has its table for itself then, and no ring.
#[inline(always)]
pub(crate) fn executed(process: &mut ProcessRecord) {
    process.executions += 1;
    if process.not_followed & OTHER_TABLE != 0 {
        process.not_followed &= !OTHER_TABLE;
        process.generation += 1;
    }
}

/// What a child begins with.
#[inline(always)]
pub(crate) fn inherited(parent: u64) -> u32 {
    tasks::record(parent).map_or(0, |parent| parent.not_followed & !EXIT_KNOWN)
}

#[inline(always)]
fn code_of(argument: u64) -> u32 {
    (argument as u32 & 0xff) << 8
}

/// Exit code of a thread that ends, by the call that ends it.
#[inline(always)]
pub(crate) fn exit_code_of(thread: &ThreadState) -> u32 {
    let is_end = thread.number == call_number::exit() || thread.number == call_number::exit_group();
    if thread.slot != SLOT_NONE && is_end { code_of(thread.arguments[0]) } else { EXIT_UNKNOWN }
}

/// What the end of a thread says of its process's end: that of its first thread counts, unless a signal ends another.
#[inline(always)]
pub(crate) fn ended(process: &mut ProcessRecord, code: u32, is_leader: bool) {
    if process.not_followed & EXIT_KNOWN == 0 && (is_leader || code == EXIT_UNKNOWN) {
        process.exit_code = code;
    }
}
