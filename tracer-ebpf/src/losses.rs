//! The only way to count what could not be kept, and the few gauges beside it.

use crate::{atomic, maps::LOSSES};

/// Adds to one of the counters of the ABI crate's `losses`; `u64::MAX` subtracts one.
#[inline(always)]
pub(crate) fn add(counter: u32, amount: u64) {
    if let Some(value) = LOSSES.get_ptr_mut(counter) {
        // SAFETY: the map returned it.
        atomic::add(unsafe { &mut *value }, amount);
    }
}
