//! Arithmetic on memory that other CPUs change too.
//!
//! In assembly, because the target declares no atomics: `lock … += …` without a result is the one
//! form that every kernel with BPF has (compare-and-exchange needs Linux 5.12).

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

/// Raises a shared maximum with plain stores: a lower value that another CPU stored meanwhile is
/// seen and replaced.
#[inline(always)]
pub(crate) fn raise(maximum: &mut u64, value: u64) {
    for _ in 0..4 {
        // SAFETY: an aligned reference; volatile, because other CPUs write it too.
        unsafe {
            if core::ptr::read_volatile(maximum) >= value {
                break;
            }
            core::ptr::write_volatile(maximum, value);
        }
    }
}
