//! Where counts are kept: a row for each (thread, syscall) while the thread lives, then merged
//! into the totals of its process.
//!
//! A row has one writer, its thread, so counting needs no atomic, no per-CPU copy and no hash.

use gpuos_tracer_abi::{
    losses::{CALLS_ON_SLOW_PATH, CALLS_WITHOUT_TOTALS},
    syscalls::{
        ABI_COMPAT, ABI_NATIVE, BUCKETS, CHUNK_ROWS, CHUNKS_PER_THREAD, DIRECTORY, Outcome, Row, RowCounts, RowKey,
        bucket_of, is_code, outcome_of,
    },
    tasks::{SLOT_TOTALS, ThreadState},
};

use crate::{
    atomic,
    kernel::bounded,
    losses,
    maps::{FREE_CHUNKS, PER_THREAD, ROWS, TOTALS},
};

/// `sigreturn` in `arch/x86/entry/syscalls/syscall_32.tbl` and `arch/arm/tools/syscall.tbl`.
const COMPAT_SIGRETURN: u32 = 119;
/// `rt_sigreturn` there.
const COMPAT_RT_SIGRETURN: u32 = 173;

/// Key of the call in flight of a thread.
#[inline(always)]
fn key(thread: &ThreadState, number: u32, abi: u32) -> RowKey {
    RowKey {
        process: thread.process,
        thread: if PER_THREAD.load() == 0 { 0 } else { thread.thread },
        phase: thread.phase,
        number,
        abi,
    }
}

/// The directory's entry for `number`.
#[inline(always)]
fn directory_entry(thread: &mut ThreadState, number: u32) -> &mut u16 {
    // SAFETY: the mask keeps the index inside the array.
    unsafe { thread.directory.get_unchecked_mut(bounded::<{ DIRECTORY as u64 - 1 }>(number)) }
}

/// Counts an entry and returns the slot to find its row again: row number + 1, or `SLOT_TOTALS`.
#[inline(always)]
pub(crate) fn enter(thread: &mut ThreadState, number: u32, rt_sigreturn: u32) -> u32 {
    if number as usize >= DIRECTORY {
        return enter_slowly(thread, number, ABI_NATIVE);
    }
    let mut slot = u32::from(*directory_entry(thread, number));
    if slot == 0 {
        // Its return value means nothing: the slow path knows that, and the fast one need not ask.
        if number == rt_sigreturn {
            return enter_slowly(thread, number, ABI_NATIVE);
        }
        slot = allocate(thread, number);
        if slot == 0 {
            losses::add(CALLS_ON_SLOW_PATH, 1);
            return enter_slowly(thread, number, ABI_NATIVE);
        }
    }
    if let Some(row) = ROWS.get_ptr_mut(slot - 1) {
        // SAFETY: the map returned it, and this thread alone writes it.
        unsafe { (*row).counts.calls += 1 };
    }
    slot
}

/// Counts a return in the row of `slot`. Says whether there is one.
#[inline(always)]
pub(crate) fn exit(slot: u32, duration: u64, timed: bool, returned: i64) -> bool {
    let Some(row) = ROWS.get_ptr_mut(slot.wrapping_sub(1)) else { return false };
    // SAFETY: the map returned it, and this thread alone writes it.
    let counts = unsafe { &mut (*row).counts };
    if is_code(returned) {
        match outcome_of(returned) {
            Outcome::Restart => counts.restarted += 1,
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

/// Gives the thread a row for `number`; 0 when none is free.
#[inline(never)]
fn allocate(thread: &mut ThreadState, number: u32) -> u32 {
    let used = thread.rows;
    let place = (used / CHUNK_ROWS) as usize;
    if place >= CHUNKS_PER_THREAD {
        return 0;
    }
    let held = &mut thread.chunks[place & (CHUNKS_PER_THREAD - 1)];
    if used % CHUNK_ROWS == 0 && *held == 0 {
        let Ok(Some(chunk)) = FREE_CHUNKS.pop() else { return 0 };
        *held = chunk + 1;
    }
    let slot = (*held).wrapping_sub(1) * CHUNK_ROWS + used % CHUNK_ROWS + 1;
    let Some(row) = ROWS.get_ptr_mut(slot - 1) else { return 0 };
    // SAFETY: the map returned it, and the chunk is this thread's.
    unsafe {
        (*row).counts = RowCounts::ZERO;
        (*row).key = key(thread, number, ABI_NATIVE);
    }
    thread.rows = used + 1;
    *directory_entry(thread, number) = slot as u16;
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

/// A global function: the verifier looks at it once, not once for each of the 128 rows that a thread may
/// have. So it takes and returns numbers only.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn merge_row(number: u32) -> u32 {
    let Some(row) = ROWS.get_ptr_mut(number) else { return 0 };
    // SAFETY: the map returned it, and this thread alone writes it.
    let row: &mut Row = unsafe { &mut *row };
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
        Some(total) => add(unsafe { &mut *total }, &row.counts),
        None => losses::add(CALLS_WITHOUT_TOTALS, row.counts.calls),
    }
    row.key.process = 0;
    0
}

#[inline(always)]
fn add(total: &mut RowCounts, more: &RowCounts) {
    atomic::add(&mut total.calls, more.calls);
    atomic::add(&mut total.untimed, more.untimed);
    atomic::add(&mut total.errors, more.errors);
    atomic::add(&mut total.restarted, more.restarted);
    atomic::add(&mut total.total_ns, more.total_ns);
    atomic::raise(&mut total.max_ns, more.max_ns);
    for bucket in 0..BUCKETS {
        atomic::add(&mut total.buckets[bucket], more.buckets[bucket]);
    }
}

/// Counts an entry straight in the totals: exact, at the price of a hash.
#[inline(never)]
pub(crate) fn enter_slowly(thread: &mut ThreadState, number: u32, abi: u32) -> u32 {
    thread.number = number;
    thread.abi = abi;
    let key = key(thread, number, abi);
    match slow_counts(&key) {
        Some(total) => atomic::add(&mut total.calls, 1),
        None => losses::add(CALLS_WITHOUT_TOTALS, 1),
    }
    SLOT_TOTALS
}

/// Whether the call in flight, one that [`enter_slowly`] counted, returns a value of the code that a
/// signal interrupted. The 32-bit tables of x86 and arm agree on their two numbers.
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
        Outcome::Success => {}
        Outcome::Error => atomic::add(&mut total.errors, 1),
        Outcome::Restart => atomic::add(&mut total.restarted, 1),
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
        let _ = TOTALS.insert(key, &RowCounts::ZERO, aya_ebpf::bindings::BPF_NOEXIST.into());
    }
    // SAFETY: the map returned it; it stays valid until the program ends.
    TOTALS.get_ptr_mut(key).map(|total| unsafe { &mut *total })
}
