//! Calls on devices: counted by what their fd is, and for drivers with rules by what their argument says.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::{BPF_ANY, task_struct},
    helpers::generated::bpf_probe_read_user,
};
use gpuos_tracer_abi::{
    counters::{
        ARGUMENTS_UNREADABLE, OBJECTS_WITHOUT_CLASS,
        state::{GPU_SEEN, SLOW_COMMANDS},
    },
    ioctl::{
        ANY_SIZE, DETAIL_CLASS, DETAIL_NOT_SEEN, DETAIL_UNKNOWN, DETAIL_UNREADABLE, DETAIL_WORD, DRIVER_KFD,
        DRIVER_NONE, DRIVER_NVIDIA, DRIVER_NVIDIA_MODESET, DRIVER_OTHER_GPU, DeviceId, EFFECT_FORGET, EFFECT_LEARN,
        EFFECT_MAP, EFFECT_NONE, MAJORS, MOST_SLOW_COMMANDS, NO_STATUS, NVIDIA_ENVELOPE, NVIDIA_MAJOR,
        NVIDIA_MODESET_MINOR, OTHER_COMMANDS, Object, QUEUE_ENDED, QUEUE_ENDED_BY_CLASS, QUEUE_KEPT, QUEUE_MADE,
        QUEUE_MADE_BY_CLASS, Rule, SLOT_BY_DEVICE, in_envelope, is_of_gpu_drivers, rule_of_call,
    },
    syscalls::{ABI_NATIVE, SYSCALL_NUMBERS},
    tasks::{SLOT_RULED, SLOT_SKIPPED, ThreadState},
};

use super::{emit, inferred, phases, rows};
use crate::ground::{
    counters,
    fd::{awaited_file, device_of, device_of_file},
    kernel::{self, argument_of, call_number},
    maps::{DRIVERS, OBJECTS, RULES},
    state,
};

/// `MAP_ANONYMOUS` of `linux/mman.h`, the same on x86 and arm.
const MAP_ANONYMOUS: u64 = 0x20;
/// As many fds of a `poll` are looked at.
const POLLED: u64 = 4;
/// As many of those that an epoll instance waits for.
const AWAITED: u32 = 3;

/// Marks the calls of a new thread that are counted by device.
#[inline(always)]
pub(crate) fn watch(thread: &mut ThreadState) {
    for number in [
        call_number::ioctl(),
        call_number::mmap(),
        call_number::read(),
        call_number::poll(),
        call_number::ppoll(),
        call_number::epoll_ctl(),
        call_number::epoll_wait(),
        call_number::epoll_pwait(),
        call_number::epoll_pwait2(),
    ] {
        if (number as usize) < SYSCALL_NUMBERS {
            *rows::slot_entry(thread, number) = SLOT_BY_DEVICE;
        }
    }
    if inferred::is_on() {
        *rows::slot_entry(thread, call_number::close()) = SLOT_BY_DEVICE;
    }
}

/// The driver behind a device number.
#[inline(always)]
fn driver_of(device: DeviceId) -> u32 {
    if !device.is_device() {
        return if is_of_gpu_drivers(device) { DRIVER_OTHER_GPU } else { DRIVER_NONE };
    }
    let (major, minor) = (device.major(), device.minor());
    if major == NVIDIA_MAJOR && minor == NVIDIA_MODESET_MINOR {
        return DRIVER_NVIDIA_MODESET;
    }
    if major >= MAJORS {
        return DRIVER_NONE;
    }
    // SAFETY: the map returned it.
    DRIVERS.get_ptr(major).map_or(DRIVER_NONE, |driver| unsafe { *driver })
}

/// A value from the program's memory.
#[inline(always)]
fn read<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes no more than the value holds, and zero is a valid value of the types used here.
    let failed = unsafe { bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _) };
    if failed != 0 {
        counters::add(ARGUMENTS_UNREADABLE, 1);
        return None;
    }
    // SAFETY: as above.
    Some(unsafe { value.assume_init() })
}

/// Counts the entry of a call that is counted by device and returns where its return is to be counted.
#[inline(never)]
pub(crate) fn device_call_enter(task: *mut task_struct, thread: &mut ThreadState, number: u32) -> u32 {
    let registers = kernel::registers_of(task);
    if number == call_number::ioctl()
        && let Some(marker) = phases::marker_of(registers)
    {
        phases::mark(marker);
        return SLOT_SKIPPED;
    }
    // A return that was missed must not last.
    thread.hook_depth = 0;
    thread.pending.device = DeviceId::NONE;
    thread.pending.command = 0;
    thread.pending.detail = 0;
    let ruled = if number == call_number::ioctl() {
        ioctl(thread, registers)
    } else {
        if counters::state(GPU_SEEN) != 0 {
            other_call(thread, number, registers);
        }
        if inferred::is_on() && thread.pending.device != DeviceId::NONE {
            inferred::gpu_call(if number == call_number::close() { QUEUE_ENDED } else { QUEUE_KEPT });
        }
        false
    };
    let slot = match rows::enter_device_call(thread, number) {
        0 => {
            if counters::state(SLOW_COMMANDS) >= MOST_SLOW_COMMANDS {
                thread.pending.command = OTHER_COMMANDS;
                thread.pending.detail = OTHER_COMMANDS;
            }
            rows::enter_slowly(thread, number, ABI_NATIVE)
        }
        slot => slot,
    };
    if ruled {
        thread.pending.slot = slot;
        return SLOT_RULED;
    }
    slot
}

/// Finds out device, command and detail of an `ioctl`. Says whether a rule wants to see its return.
#[inline(always)]
fn ioctl(thread: &mut ThreadState, registers: *const c_void) -> bool {
    let pending = &mut thread.pending;
    pending.device = device_of(argument_of(registers, 0) as u32);
    pending.command = argument_of(registers, 1) as u32;
    let driver = driver_of(pending.device);
    if driver == DRIVER_NONE {
        // It may be of a module that loads meanwhile: then user space names the call afterwards.
        if pending.device.is_device() {
            pending.detail = DETAIL_NOT_SEEN;
        }
        return false;
    }
    counters::set_state(GPU_SEEN);
    pending.argument = argument_of(registers, 2);
    if driver == DRIVER_NVIDIA && pending.command & 0xff == NVIDIA_ENVELOPE {
        let Some([number_and_size, address]) = read::<[u64; 2]>(pending.argument) else {
            pending.detail = DETAIL_UNREADABLE;
            return false;
        };
        // As if it had come without the envelope.
        (pending.command, pending.size) = in_envelope(number_and_size);
        pending.argument = address;
    } else {
        pending.size = pending.command >> 16 & 0x3fff;
    }
    // Recorded calls have their arguments copied at their return, whether or not there is a rule.
    pending.rule = u32::MAX;
    let Some(index) = rule_of_call(driver, pending.command) else { return without_rule() };
    let Some(rule) = RULES.get_ptr(index) else { return without_rule() };
    // SAFETY: the map returned it; user space writes it only before the driver's major number is known here.
    let rule: &Rule = unsafe { &*rule };
    pending.rule = index;
    pending.detail = match rule.detail {
        DETAIL_WORD => read(pending.argument + u64::from(rule.detail_at)).unwrap_or(DETAIL_UNREADABLE),
        DETAIL_CLASS => class_of(pending.argument, rule.client_at, rule.detail_at),
        _ => 0,
    };
    if inferred::is_on() {
        inferred::gpu_call(match rule.queue {
            QUEUE_MADE_BY_CLASS => inferred::of_class(QUEUE_MADE, pending.detail),
            QUEUE_ENDED_BY_CLASS => inferred::of_class(QUEUE_ENDED, pending.detail),
            queue => queue,
        });
    }
    emit::is_on() || rule.effect != EFFECT_NONE || rule.status[0].at != NO_STATUS
}

/// What [`ioctl`] says of a command for which there is no rule.
#[inline(always)]
fn without_rule() -> bool {
    if inferred::is_on() {
        inferred::gpu_call(QUEUE_KEPT);
    }
    emit::is_on()
}

/// The object whose client and handle stand in an argument.
#[inline(always)]
fn object_in(argument: u64, client_at: u32, handle_at: u32) -> Option<Object> {
    let handle: u32 = read(argument + u64::from(handle_at))?;
    match read::<u32>(argument + u64::from(client_at))? {
        // A client is the root of its own objects.
        0 => Some(Object { client: handle, handle }),
        client => Some(Object { client, handle }),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn class_of(argument: u64, client_at: u32, handle_at: u32) -> u32 {
    let Some(object) = object_in(argument, client_at, handle_at) else { return DETAIL_UNREADABLE };
    // SAFETY: the map returned it; it lives as long as the program.
    OBJECTS.get_ptr(&object).map_or(DETAIL_UNKNOWN, |class| unsafe { *class })
}

/// Finds out the device of a call that may be on a GPU; on all others it is counted without one.
#[inline(always)]
fn other_call(thread: &mut ThreadState, number: u32, registers: *const c_void) {
    if number == call_number::poll() || number == call_number::ppoll() {
        let (list, length) = (argument_of(registers, 0), argument_of(registers, 1));
        for place in 0..POLLED {
            if place >= length {
                return;
            }
            let Some(fd) = read::<u32>(list + place * 8) else { return };
            let device = device_of(fd);
            if driver_of(device) != DRIVER_NONE {
                thread.pending.device = device;
                return;
            }
        }
        return;
    }
    if number == call_number::epoll_wait()
        || number == call_number::epoll_pwait()
        || number == call_number::epoll_pwait2()
    {
        for place in 0..AWAITED {
            let file = awaited_file(argument_of(registers, 0) as u32, place);
            if file == 0 {
                continue;
            }
            let device = device_of_file(file);
            if driver_of(device) != DRIVER_NONE {
                thread.pending.device = device;
                return;
            }
        }
        return;
    }
    let fd = if number == call_number::mmap() {
        if argument_of(registers, 3) & MAP_ANONYMOUS != 0 {
            return;
        }
        argument_of(registers, 4) as u32
    } else if number == call_number::epoll_ctl() {
        argument_of(registers, 2) as u32
    } else {
        argument_of(registers, 0) as u32
    };
    let device = device_of(fd);
    let driver = driver_of(device);
    if driver == DRIVER_NONE {
        return;
    }
    let pending = &mut thread.pending;
    pending.device = device;
    if number == call_number::mmap() {
        if driver == DRIVER_KFD {
            // KFD_MMAP_TYPE of the driver's kfd_priv.h; + 1, because 0 is none.
            pending.detail = (argument_of(registers, 5) >> 62) as u32 + 1;
        } else if pending.mapped == fd + 1 {
            pending.detail = pending.mapped_class;
            pending.mapped = 0;
        }
    }
}

/// Counts the return of a call for which there is a rule.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn device_call_exit(duration: u64, timed: u32, returned: i64) -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    let slot = thread.pending.slot;
    let mut status = 0_u32;
    if returned >= 0 {
        let (argument, size) = (thread.pending.argument, thread.pending.size);
        if let Some(rule) = RULES.get_ptr(thread.pending.rule) {
            // SAFETY: the map returned it; user space writes it only before the driver's major number is known here.
            let rule: &Rule = unsafe { &*rule };
            for place in &rule.status {
                if place.at != NO_STATUS && (place.size == ANY_SIZE || place.size == size) {
                    status = read(argument + u64::from(place.at)).unwrap_or(0);
                    break;
                }
            }
            if status == 0 {
                remember(thread, rule, argument);
            }
        }
    }
    rows::exit_device_call(thread, slot, duration, timed != 0, returned, status);
    if emit::is_on() {
        emit::device_call(thread, duration, timed != 0, returned, status, true);
    }
    0
}

/// Keeps what a successful call means for later ones.
#[inline(always)]
fn remember(thread: &mut ThreadState, rule: &Rule, argument: u64) {
    let detail = thread.pending.detail;
    let (effect, object_at, class) = rule.effect_of(detail);
    match effect {
        EFFECT_LEARN => {
            let class = match class {
                DETAIL_UNREADABLE => DETAIL_UNKNOWN,
                class => class,
            };
            if let Some(object) = object_in(argument, rule.object_client_at, object_at)
                && OBJECTS.insert(&object, &class, BPF_ANY.into()).is_err()
            {
                counters::add(OBJECTS_WITHOUT_CLASS, 1);
            }
        }
        EFFECT_FORGET => {
            if let Some(object) = object_in(argument, rule.object_client_at, object_at) {
                let _ = OBJECTS.remove(&object);
            }
        }
        EFFECT_MAP => {
            if let Some(fd) = read::<u32>(argument + u64::from(object_at)) {
                thread.pending.mapped = fd.wrapping_add(1);
                thread.pending.mapped_class = detail;
            }
        }
        _ => {}
    }
}
