//! Where counts are kept: a row for each (thread, syscall) while the thread lives, then merged
//! into the totals of its process.
//!
//! A row has one writer, its thread, so counting needs no atomic, no per-CPU copy and no hash.

use gpuos_tracer_abi::{
    counters::{CALLS_ON_SLOW_PATH, CALLS_WITHOUT_TOTALS, state::SLOW_COMMANDS},
    ioctl::{DeviceId, Pending, ROW_TABLE},
    syscalls::{
        ABI_COMPAT, ABI_NATIVE, CHUNK_ROWS, CHUNKS_PER_THREAD, COMPAT_RT_SIGRETURN, COMPAT_SIGRETURN, CallOutcome,
        RowCounts, RowKey, SYSCALL_NUMBERS, bucket_of, is_code, outcome_of,
    },
    tasks::{SLOT_TOTALS, ThreadState},
};

use crate::ground::{
    atomic, counters,
    kernel::{self, bounded, call_number},
    maps::{FREE_CHUNKS, PER_THREAD, SLOTS, TOTALS},
    state,
};

/// Places in a thread's table of rows that are looked at.
const PROBES: u32 = 8;

/// Key of the call in flight of a thread. Who counts a call without a device calls [`without_device`] first.
#[inline(always)]
fn key(thread: &ThreadState, number: u32, abi: u32) -> RowKey {
    RowKey {
        process: thread.process,
        thread: if PER_THREAD.load() == 0 { 0 } else { thread.thread },
        phase: thread.phase,
        number,
        abi,
        device: thread.pending.device,
        command: thread.pending.command,
        detail: thread.pending.detail,
        padding: 0,
    }
}

/// The thread's slot for `number`.
#[inline(always)]
pub(crate) fn slot_entry(thread: &mut ThreadState, number: u32) -> &mut u16 {
    // SAFETY: the mask keeps the index inside the array.
    unsafe { thread.slot_by_syscall.get_unchecked_mut(bounded::<{ SYSCALL_NUMBERS as u64 - 1 }>(number)) }
}

/// The call in flight is counted by its number alone.
#[inline(always)]
pub(crate) fn without_device(thread: &mut ThreadState) {
    // Volatile: `new_row` reads them through a pointer of its own, which the compiler does not know of.
    // SAFETY: a valid reference.
    unsafe { (&raw mut thread.pending.device).write_volatile(DeviceId::NONE) };
    // SAFETY: as above.
    unsafe { (&raw mut thread.pending.command).write_volatile(0) };
    // SAFETY: as above.
    unsafe { (&raw mut thread.pending.detail).write_volatile(0) };
}

/// Counts an entry and returns the slot to find its row again: row number + 1, or `SLOT_TOTALS`. `None` for
/// calls that are counted by device (`ioctl.rs`).
#[inline(always)]
pub(crate) fn enter(thread: &mut ThreadState, number: u32) -> Option<u32> {
    if number as usize >= SYSCALL_NUMBERS {
        return Some(enter_by_number(thread, number, ABI_NATIVE));
    }
    let slot = u32::from(*slot_entry(thread, number));
    if slot == 0 {
        // Its return value means nothing: the slow path knows that, and the fast one need not ask.
        if number == call_number::rt_sigreturn() {
            return Some(enter_by_number(thread, number, ABI_NATIVE));
        }
    } else {
        // No row has the number that marks a call counted by device.
        let row = SLOTS.get_ptr_mut(slot - 1)?;
        // SAFETY: the map returned it, and this thread alone writes it.
        let row = unsafe { &mut *row };
        if row.key.phase == thread.phase {
            row.counts.calls += 1;
            return Some(slot);
        }
    }
    // The first of its number, or the first since the phase changed.
    without_device(thread);
    let slot = search_row(number);
    if slot == 0 {
        return Some(enter_slowly(thread, number, ABI_NATIVE));
    }
    *slot_entry(thread, number) = slot as u16;
    Some(slot)
}

/// A place in a thread's table of rows.
#[inline(always)]
fn place_of(thread: &mut ThreadState, number: u32, probe: u32) -> *mut u16 {
    let Pending { device, command, detail, .. } = thread.pending;
    let phase = thread.phase;
    let mixed = command
        ^ detail.wrapping_mul(0x9e37_79b1)
        ^ device.0.wrapping_mul(0x85eb_ca6b)
        ^ number.wrapping_mul(0x27d4_eb2f)
        ^ phase.wrapping_mul(0x1656_67b1);
    let first = mixed ^ mixed >> 16 ^ mixed >> 8;
    // SAFETY: the mask keeps the index inside the array.
    unsafe { thread.row_table.get_unchecked_mut(bounded::<{ ROW_TABLE as u64 - 1 }>(first.wrapping_add(probe))) }
}

/// Counts the entry in the row of `slot`, if that is the row of the call in flight.
#[inline(always)]
fn count_in(slot: u32, thread: &ThreadState, number: u32) -> bool {
    let Some(row) = SLOTS.get_ptr_mut(slot.wrapping_sub(1)) else { return false };
    // SAFETY: the map returned it, and this thread alone writes it.
    let row = unsafe { &mut *row };
    let (key, pending) = (&row.key, &thread.pending);
    let same = key.command == pending.command
        && key.detail == pending.detail
        && key.device == pending.device
        && key.number == number
        && key.phase == thread.phase;
    if same {
        row.counts.calls += 1;
    }
    same
}

/// Counts the entry of a call whose device, command and detail stand in [`ThreadState::pending`]. 0 when there
/// is no row for it.
#[inline(always)]
pub(crate) fn enter_device_call(thread: &mut ThreadState, number: u32) -> u32 {
    // SAFETY: inside the thread's state.
    let slot = u32::from(unsafe { *place_of(thread, number, 0) });
    if count_in(slot, thread, number) { slot } else { search_row(number) }
}

/// Counts an entry in the row that a search finds or makes. 0 when there is no row for it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn search_row(number: u32) -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    for probe in 0..PROBES {
        let entry = place_of(thread, number, probe);
        // SAFETY: inside the thread's state.
        let slot = match u32::from(unsafe { *entry }) {
            0 => {
                let slot = new_row(number);
                if slot == 0 {
                    return 0;
                }
                // SAFETY: as above.
                unsafe { *entry = slot as u16 };
                slot
            }
            slot => slot,
        };
        if count_in(slot, thread, number) {
            return slot;
        }
    }
    counters::add(CALLS_ON_SLOW_PATH, 1);
    0
}

/// Counts the return of a call of [`enter_device_call`], with the status that its argument told.
#[inline(always)]
pub(crate) fn exit_device_call(
    thread: &mut ThreadState,
    slot: u32,
    duration: u64,
    timed: bool,
    returned: i64,
    status: u32,
) {
    if !exit(slot, duration, timed, returned) {
        exit_slowly(thread, duration, u32::from(timed), returned);
    }
    if status == 0 {
        return;
    }
    if let Some(row) = SLOTS.get_ptr_mut(slot.wrapping_sub(1)) {
        // SAFETY: the map returned it, and this thread alone writes it.
        let counts = unsafe { &mut (*row).counts };
        counts.refused += 1;
        counts.status = status.into();
    } else if let Some(total) = slow_counts(&key(thread, thread.number, thread.abi)) {
        atomic::add(&mut total.refused, 1);
        total.status = status.into();
    }
}

/// Counts that the call in flight has reached its driver, and the time that it spent there.
#[inline(always)]
pub(crate) fn reached_driver(thread: &ThreadState, slot: u32, calls: u64, duration: u64) {
    if let Some(row) = SLOTS.get_ptr_mut(slot.wrapping_sub(1)) {
        // SAFETY: the map returned it, and this thread alone writes it.
        let counts = unsafe { &mut (*row).counts };
        counts.driver_calls += calls;
        counts.driver_ns += duration;
    } else if slot == SLOT_TOTALS
        && let Some(total) = slow_counts(&key(thread, thread.number, thread.abi))
    {
        atomic::add(&mut total.driver_calls, calls);
        atomic::add(&mut total.driver_ns, duration);
    }
}

/// Counts a return in the row of `slot`. Says whether there is one.
#[inline(always)]
pub(crate) fn exit(slot: u32, duration: u64, timed: bool, returned: i64) -> bool {
    let Some(row) = SLOTS.get_ptr_mut(slot.wrapping_sub(1)) else { return false };
    // SAFETY: the map returned it, and this thread alone writes it.
    let counts = unsafe { &mut (*row).counts };
    if is_code(returned) {
        match outcome_of(returned) {
            CallOutcome::Restart => counts.restarted += 1,
            _ => counts.errors += 1,
        }
    }
    if timed {
        counts.total_ns += duration;
        if duration > counts.max_ns {
            counts.max_ns = duration;
        }
        if let Some(count) = counts.buckets.get_mut(bucket_of(duration)) {
            *count += 1;
        }
    } else {
        counts.untimed += 1;
    }
    true
}

/// Gives the thread a row for the call in flight; 0 when none is free. A global function, as below.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn new_row(number: u32) -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    let used = thread.rows;
    let place = (used / CHUNK_ROWS) as usize;
    if place >= CHUNKS_PER_THREAD {
        counters::add(CALLS_ON_SLOW_PATH, 1);
        return 0;
    }
    let held = &mut thread.chunks[place & (CHUNKS_PER_THREAD - 1)];
    if used % CHUNK_ROWS == 0 && *held == 0 {
        let Ok(Some(chunk)) = FREE_CHUNKS.pop() else {
            counters::add(CALLS_ON_SLOW_PATH, 1);
            return 0;
        };
        *held = chunk + 1;
    }
    let slot = (*held).wrapping_sub(1) * CHUNK_ROWS + used % CHUNK_ROWS + 1;
    let Some(row) = SLOTS.get_ptr_mut(slot - 1) else { return 0 };
    // SAFETY: the map returned it, and the chunk is this thread's.
    let row = unsafe { &mut *row };
    row.counts = RowCounts::ZERO;
    row.thread = thread.thread;
    row.key = key(thread, number, ABI_NATIVE);
    thread.rows = used + 1;
    slot
}

/// Merges the rows of an exiting thread into the totals and gives its chunks back.
#[inline(always)]
pub(crate) fn release(thread: &mut ThreadState) {
    for place in 0..CHUNKS_PER_THREAD {
        let held = thread.chunks[place];
        if held == 0 {
            break;
        }
        for index in 0..CHUNK_ROWS {
            if place as u32 * CHUNK_ROWS + index >= thread.rows {
                break;
            }
            merge_row((held - 1) * CHUNK_ROWS + index);
        }
        // Cannot fail: the stack has room for every chunk there is.
        let _ = FREE_CHUNKS.push(&(held - 1), 0);
        thread.chunks[place] = 0;
    }
    thread.rows = 0;
}

/// A global function: the verifier looks at it once, not once for each of the 256 rows that a thread may
/// have. So it takes and returns numbers only.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn merge_row(number: u32) -> u32 {
    let Some(row) = SLOTS.get_ptr_mut(number) else { return 0 };
    // SAFETY: the map returned it, and this thread alone writes it.
    let row = unsafe { &mut *row };
    let key = row.key;
    if TOTALS.get_ptr_mut(&key).is_none()
        && TOTALS.insert(&key, &row.counts, aya_ebpf::bindings::BPF_NOEXIST.into()).is_ok()
    {
        row.key.process = 0;
        return 0;
    }
    // Somebody else's insertion won, or the map is full.
    match TOTALS.get_ptr_mut(&key) {
        // SAFETY: the map returned it; it stays valid until the program ends.
        Some(total) => unsafe { &mut *total }.merge(&row.counts, atomic::add, atomic::raise),
        None => counters::add(CALLS_WITHOUT_TOTALS, row.counts.calls),
    }
    row.key.process = 0;
    0
}

/// Counts an entry straight in the totals, by the call's number alone.
#[inline(always)]
pub(crate) fn enter_by_number(thread: &mut ThreadState, number: u32, abi: u32) -> u32 {
    without_device(thread);
    enter_slowly(thread, number, abi)
}

/// Counts an entry straight in the totals: exact, at the price of a hash.
#[inline(never)]
pub(crate) fn enter_slowly(thread: &mut ThreadState, number: u32, abi: u32) -> u32 {
    thread.number = number;
    thread.abi = abi;
    let key = key(thread, number, abi);
    match slow_counts(&key) {
        Some(total) => atomic::add(&mut total.calls, 1),
        None => counters::add(CALLS_WITHOUT_TOTALS, 1),
    }
    SLOT_TOTALS
}

/// Whether the call in flight, one that [`enter_slowly`] counted, returns a value of the code that a
/// signal interrupted.
#[inline(always)]
pub(crate) fn returns_foreign_value(thread: &ThreadState, native: u32) -> bool {
    if thread.abi == ABI_COMPAT {
        thread.number == COMPAT_SIGRETURN || thread.number == COMPAT_RT_SIGRETURN
    } else {
        thread.number == native
    }
}

/// Counts the return of a call that [`enter_slowly`] counted.
#[inline(never)]
pub(crate) fn exit_slowly(thread: &mut ThreadState, duration: u64, timed: u32, returned: i64) -> u32 {
    let key = key(thread, thread.number, thread.abi);
    let Some(total) = slow_counts(&key) else { return 0 };
    match outcome_of(returned) {
        CallOutcome::Success => {}
        CallOutcome::Error => atomic::add(&mut total.errors, 1),
        CallOutcome::Restart => atomic::add(&mut total.restarted, 1),
    }
    if timed != 0 {
        atomic::add(&mut total.total_ns, duration);
        atomic::raise(&mut total.max_ns, duration);
        if let Some(count) = total.buckets.get_mut(bucket_of(duration)) {
            atomic::add(count, 1);
        }
    } else {
        atomic::add(&mut total.untimed, 1);
    }
    0
}

#[inline(always)]
fn slow_counts(key: &RowKey) -> Option<&'static mut RowCounts> {
    if TOTALS.get_ptr_mut(key).is_none() {
        // A lost race is as good: the entry is there.
        let made = TOTALS.insert(key, &RowCounts::ZERO, aya_ebpf::bindings::BPF_NOEXIST.into());
        if made.is_ok() && key.command != 0 {
            counters::change_state(SLOW_COMMANDS, 1);
        }
    }
    // SAFETY: the map returned it; it stays valid until the program ends.
    TOTALS.get_ptr_mut(key).map(|total| unsafe { &mut *total })
}
