//! Arithmetic on memory that other CPUs change too.
//!
//! In assembly, because the target declares no atomics.

use core::arch::asm;

/// Adds to a shared counter.
#[inline(always)]
pub(crate) fn add(value: &mut u64, amount: u64) {
    // SAFETY: one instruction on an aligned reference.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) value, in(reg) amount, options(nostack)) }
}

/// Adds to a shared 32-bit counter; `u32::MAX` subtracts one.
#[inline(always)]
pub(crate) fn add32(value: &mut u32, amount: u32) {
    // SAFETY: one instruction on an aligned reference.
    unsafe { asm!("lock *(u32 *)({0} + 0) += {1}", in(reg) value, in(reg) u64::from(amount), options(nostack)) }
}

/// Raises a shared maximum. Gives up when other CPUs changed it four times meanwhile.
#[inline(always)]
pub(crate) fn raise(maximum: &mut u64, value: u64) {
    for _ in 0..4 {
        // SAFETY: an aligned reference; volatile, because other CPUs write it too.
        let seen = unsafe { core::ptr::read_volatile(maximum) };
        if seen >= value {
            return;
        }
        let found: u64;
        // SAFETY: one instruction on an aligned reference (Linux 5.12; arm64 5.18).
        unsafe {
            asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) &raw mut *maximum, in(reg) value, inout("r0") seen => found, options(nostack))
        };
        if found == seen {
            return;
        }
    }
}
