//! The only way to count what could not be kept, and to change what the programs ask each other.

use super::{
    atomic,
    maps::{COUNTERS, STATE},
};

/// Adds to one of the counters of the ABI crate's `counters`.
#[inline(always)]
pub(crate) fn add(counter: u32, amount: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: the map returned it.
        atomic::add(unsafe { &mut *value }, amount);
    }
}

/// Adds to one of the words of `counters::state`; `u64::MAX` subtracts one.
#[inline(always)]
pub(crate) fn change_state(word: u32, amount: u64) {
    if let Some(value) = STATE.get_ptr_mut(word) {
        // SAFETY: the map returned it.
        atomic::add(unsafe { &mut *value }, amount);
    }
}

/// One of the words of `counters::state`.
#[inline(always)]
pub(crate) fn state(word: u32) -> u64 {
    // SAFETY: the map returned it; it lives as long as the program.
    STATE.get_ptr(word).map_or(0, |value| unsafe { *value })
}

/// Sets one to 1, unless it is. Read first: others share the cache line.
#[inline(always)]
pub(crate) fn set_state(word: u32) {
    if let Some(value) = STATE.get_ptr_mut(word) {
        // SAFETY: the map returned it; whoever writes, writes the same.
        let value = unsafe { &mut *value };
        if *value == 0 {
            *value = 1;
        }
    }
}
