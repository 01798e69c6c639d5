//! Kernels that show no BTF: what the walk of `fd.rs` cannot find there is followed from call to
//! call. An fd is known from the path that was opened. Whatever is not understood makes it unknown, never another.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, task_struct},
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_probe_read_user, bpf_probe_read_user_str},
    },
    programs::TracePointContext,
};
use gpuos_tracer_abi::{
    fd_table::{DevicePath, FdKey, FdTable, OpenFd},
    ioctl::{DeviceId, NOT_FOLLOWED},
    tasks::{EXIT_UNKNOWN, ProcessRecord, SLOT_NONE, STAGE_BORN, ThreadState},
};

use super::{
    kernel::{self, call_number},
    maps::{DEVICE_PATHS, FD_TABLES, OPEN_FDS},
    state,
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
// `CLONE_FS`, `CLONE_FILES`, `CLONE_THREAD` and `CLONE_NEWNS` of `linux/sched.h`.
const SHARED_ROOT: u64 = 0x200;
const SHARED_FILES: u64 = 0x400;
const OF_PROCESS: u64 = 0x10000;
const OTHER_MOUNTS: u64 = 0x20000;
/// In the record of `raw_syscalls/sys_enter`.
const ARGUMENTS: usize = 16;

/// Bit of the numbers of x32 calls.
const X32: u32 = 1 << 30;

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
        || number == call_number::io_uring_enter()
        || number == call_number::exit_group()
        || is_of_other_table(number)
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

/// Whether the number means another call: that of a 32-bit program.
#[inline(always)]
fn is_of_other_table(number: u32) -> bool {
    number & X32 != 0 || kernel::is_compat(kernel::current_task())
}

/// What a call means before it is made: the tables that it may change, and what its return must know.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn entering() -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    if thread.stage == STAGE_BORN {
        // Its process is still its parent's.
        return 0;
    }
    let Some(process) = table_of(thread.process) else { return 0 };
    let number = thread.number;
    let [first, second, ..] = thread.arguments;
    if is_of_other_table(number) || number == call_number::io_uring_enter() {
        // It may close by numbers of another table, or by what is in a ring.
        process.other_table = 1;
    } else if is_opening(number) {
        thread.at_entry = process.generation;
    } else if is_duplicating(number) {
        let device = device_of(first as u32);
        // Looked up again: `device_of` has made a reference to it, too.
        let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
        thread.at_entry = device.0;
        if number == call_number::dup3() || number == call_number::dup2() && first as u32 != second as u32 {
            let _ = OPEN_FDS.remove(&fd_key(second as u32));
        }
    } else if number == call_number::close_range() {
        process.generation += 1;
    } else if number == call_number::clone() {
        cloning(process, Some(first));
    } else if number == call_number::clone3() {
        // `flags` begins `struct clone_args`.
        cloning(process, word_of_program(first));
    } else if process.has_exit_code == 0
        && let Some(record) = state::record(thread.process)
    {
        // `exit_group`.
        record.exit_code = code_of(first);
        process.has_exit_code = 1;
    }
    0
}

/// Threads share tables and roots, processes have their own: what else there is, is not followed. A child inherits that.
#[inline(always)]
fn cloning(process: &mut FdTable, flags: Option<u64>) {
    let flags = flags.unwrap_or(SHARED_FILES | SHARED_ROOT | OTHER_MOUNTS);
    if (flags & SHARED_FILES != 0) != (flags & OF_PROCESS != 0) {
        process.other_table = 1;
    }
    if flags & SHARED_ROOT != 0 && flags & OF_PROCESS == 0 {
        process.other_paths = 1;
    }
    if flags & OTHER_MOUNTS != 0 {
        process.child_other_paths = 1;
    }
}

/// An fd is about to be closed: at the return another thread may have its number.
#[inline(always)]
pub(crate) fn closing(thread: &ThreadState) {
    let _ = OPEN_FDS.remove(&fd_key(thread.arguments[0] as u32));
}

/// Follows a call that has returned: what it has opened, duplicated or changed.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn call_returned(number: u32, returned: i64) -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    let Some(process) = table_of(thread.process) else { return 0 };
    if number == call_number::clone() || number == call_number::clone3() {
        process.child_other_paths = 0;
    }
    if returned < 0 || is_of_other_table(number) {
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
        match (word_of_program(third), word_of_program(third + 16)) {
            (Some(flags), Some(resolved)) if resolved & RESOLVED_ELSEWHERE == 0 => {
                opened(made, second, flags, at_entry);
            }
            _ => set(made, NOT_FOLLOWED, true),
        }
    } else if number == call_number::dup() || number == call_number::dup2() && first as u32 != made {
        duplicated(made, first, at_entry, true);
    } else if number == call_number::dup3() {
        duplicated(made, first, at_entry, third & CLOSED_ON_EXECUTION == 0);
    } else if number == call_number::fcntl() {
        match command {
            DUPLICATE | DUPLICATE_CLOSED_ON_EXECUTION => duplicated(made, first, at_entry, command == DUPLICATE),
            SET_FLAGS => keep(first as u32, third & 1 == 0),
            _ => {}
        }
    } else if number == call_number::ioctl() {
        if command == FLAG_SET || command == FLAG_CLEARED {
            keep(first as u32, command == FLAG_CLEARED);
        }
    } else if number == call_number::close_range() {
        // Again: what was opened meanwhile may be closed, too.
        process.generation += 1;
        if third as u32 & RANGE_OF_OWN != 0 {
            process.other_table = 1;
        }
    } else if number == call_number::io_uring_setup() {
        process.other_table = 1;
    } else if number == call_number::unshare() {
        if first & SHARED_FILES != 0 {
            process.other_table = 1;
        }
        if first & OTHER_MOUNTS != 0 {
            process.other_paths = 1;
        }
    } else if number == call_number::setns() {
        // 0: whatever the fd is of.
        if command == 0 || second & OTHER_MOUNTS != 0 {
            process.other_paths = 1;
        }
    } else if number == call_number::chroot() || number == call_number::pivot_root() {
        process.other_paths = 1;
    }
    0
}

/// A word of the program's memory.
#[inline(always)]
fn word_of_program(address: u64) -> Option<u64> {
    let mut word = 0_u64;
    // SAFETY: the helper writes no more than the value holds.
    let failed = unsafe { bpf_probe_read_user((&raw mut word).cast(), size_of::<u64>() as u32, address as *const _) };
    (failed == 0).then_some(word)
}

#[inline(always)]
fn fd_key(number: u32) -> FdKey {
    FdKey { pid: (bpf_get_current_pid_tgid() >> 32) as u32, number }
}

/// What is known of a process.
#[inline(always)]
fn table_of(process: u64) -> Option<&'static mut FdTable> {
    // SAFETY: the map returned it; it lives as long as the program.
    FD_TABLES.get_ptr_mut(&process).map(|process| unsafe { &mut *process })
}

/// The current process's id, and what is known of it.
#[inline(always)]
fn process() -> Option<(u64, &'static mut FdTable)> {
    let id = state::state_of(kernel::current_task())?.process;
    Some((id, table_of(id)?))
}

/// A process begins, with what its parent hands down.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn begin(id: u64, parent: u64) -> u32 {
    let mut begun = FdTable::default();
    if let Some(parent) = table_of(parent) {
        begun.other_paths = parent.other_paths | parent.child_other_paths;
        begun.other_table = parent.other_table;
    } else if parent != 0 {
        // Nothing is known of that one any more.
        (begun.other_paths, begun.other_table) = (1, 1);
    }
    let _ = FD_TABLES.insert(&id, &begun, BPF_ANY.into());
    0
}

/// What a path leads to is open now, unless many were closed since the call began.
#[inline(always)]
fn opened(number: u32, path: u64, flags: u64, generation: u32) {
    let mut name: DevicePath = [0; _];
    // SAFETY: the helper writes no more than the name holds, with a zero at its end.
    let length =
        unsafe { bpf_probe_read_user_str((&raw mut name).cast(), size_of::<DevicePath>() as u32, path as *const _) };
    let is_followed =
        process().is_some_and(|(_, process)| process.other_paths == 0 && process.generation == generation);
    // As long as the name itself is what was cut.
    let is_whole = length > 0 && length < size_of::<DevicePath>() as i64;
    let device =
        if is_whole && is_followed && flags & OPENED_AS_PATH == 0 { DEVICE_PATHS.get_ptr(&name) } else { None };
    // SAFETY: the map returned it.
    let device = device.map_or(NOT_FOLLOWED, |device| unsafe { *device });
    set(number, device, flags & CLOSED_ON_EXECUTION == 0);
}

/// Another fd of the same file, if that is still what it was at the entry.
#[inline(always)]
fn duplicated(number: u32, from: u64, at_entry: u32, is_kept: bool) {
    let device = DeviceId(at_entry);
    set(number, if device_of(from as u32) == device { device } else { NOT_FOLLOWED }, is_kept);
}

#[inline(always)]
fn set(number: u32, device: DeviceId, is_kept: bool) {
    let key = fd_key(number);
    // What was there before may have been closed in a way that is not followed.
    let _ = OPEN_FDS.remove(&key);
    if device != NOT_FOLLOWED
        && let Some((id, process)) = process()
    {
        let (generation, executions) = (process.generation, process.executions);
        let opened = OpenFd { process: id, device, generation, executions, is_kept: is_kept.into() };
        let _ = OPEN_FDS.insert(&key, &opened, BPF_ANY.into());
    }
}

/// What is open at a number, as far as that is known.
#[inline(always)]
fn open_at(number: u32) -> Option<&'static mut OpenFd> {
    let (id, process) = process()?;
    // SAFETY: the map returned it; it lives as long as the program.
    let opened = unsafe { &mut *OPEN_FDS.get_ptr_mut(&fd_key(number))? };
    let is_of_now = opened.process == id && opened.generation == process.generation;
    let is_open = opened.is_kept != 0 || opened.executions == process.executions;
    (is_of_now && is_open && process.other_table == 0).then_some(opened)
}

/// Whether it stays open when another program is executed.
#[inline(always)]
fn keep(number: u32, is_kept: bool) {
    if let (Some(opened), Some((_, process))) = (open_at(number), process()) {
        opened.is_kept = is_kept.into();
        opened.executions = process.executions;
    }
}

/// What an fd of the current process is.
#[inline(always)]
pub(crate) fn device_of(number: u32) -> DeviceId {
    open_at(number).map_or(NOT_FOLLOWED, |opened| opened.device)
}

/// A process executes another program: it has its table for itself then, and no ring.
#[inline(always)]
pub(crate) fn executed(process: u64) {
    let Some(process) = table_of(process) else { return };
    process.executions += 1;
    process.has_exit_code = 0;
    if process.other_table != 0 {
        process.other_table = 0;
        process.generation += 1;
    }
}

#[inline(always)]
fn code_of(argument: u64) -> u32 {
    (argument as u32 & 0xff) << 8
}

/// Exit code of a thread that ends, by the call that ends it.
#[inline(always)]
pub(crate) fn exit_code_of(task: *mut task_struct, thread: &ThreadState) -> u32 {
    let is_end = thread.number == call_number::exit() || thread.number == call_number::exit_group();
    let is_told = thread.slot != SLOT_NONE && is_end && !kernel::is_compat(task);
    if is_told { code_of(thread.arguments[0]) } else { EXIT_UNKNOWN }
}

/// What the end of a thread says of its process's end: that of its first thread counts, unless a signal ends another.
#[inline(always)]
pub(crate) fn ended(id: u64, record: &mut ProcessRecord, code: u32, is_leader: bool) {
    let has_exit_code = table_of(id).is_none_or(|process| process.has_exit_code != 0);
    if !has_exit_code && (is_leader || code == EXIT_UNKNOWN) {
        record.exit_code = code;
    }
}
