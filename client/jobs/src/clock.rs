//! The clock that deadlines are on, and sleeping until one of its times.

use std::cell::Cell;

use crate::error::{Error, Result};

/// `CLOCK_MONOTONIC`, nanoseconds.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the structure that it is given; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until a time of [`now`]: one system call, or several when signals interrupt it.
pub fn sleep_until(time: u64) {
    fine_timers();
    let until = timespec(time);
    // SAFETY: reads the structure; an absolute time needs no remainder.
    while unsafe {
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const until, std::ptr::null_mut())
    } == libc::EINTR
    {}
}

pub(crate) fn timespec(time: u64) -> libc::timespec {
    libc::timespec { tv_sec: (time / 1_000_000_000) as i64, tv_nsec: (time % 1_000_000_000) as i64 }
}

/// Timer slack of a thread that waits, nanoseconds: the kernel's default of 50 µs is longer than many jobs.
const SLACK: libc::c_ulong = 1_000;

/// Sets this thread's timer slack, once: from then on a sleep ends when it should.
pub fn fine_timers() {
    thread_local!(static IS_SET: Cell<bool> = const { Cell::new(false) });
    if !IS_SET.replace(true) {
        // SAFETY: changes the timer slack of this thread alone.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, SLACK, 0, 0, 0) };
    }
}

/// A word that a thread sleeps on until it is changed or a time is reached.
#[derive(Debug, Default)]
pub(crate) struct Doorbell(std::sync::atomic::AtomicU32);

impl Doorbell {
    /// What it says now; [`Doorbell::sleep`] returns at once when it has been rung since.
    pub(crate) fn look(&self) -> u32 {
        self.0.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Wakes who sleeps: one system call.
    pub(crate) fn ring(&self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        // SAFETY: the word lives as long as this call; a wake-up has no other arguments.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
    }

    /// Sleeps until it is rung or a time of [`now`] is reached; without a time until it is rung.
    ///
    /// # Errors
    /// The kernel has no such futex.
    pub(crate) fn sleep(&self, seen: u32, until: Option<u64>) -> Result<()> {
        fine_timers();
        let until = until.map(timespec);
        let time = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the word and the time live as long as this call. A bit set makes the time absolute, on CLOCK_MONOTONIC.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                seen,
                time,
                std::ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        let error = Error::system("futex");
        let is_expected = [libc::EAGAIN, libc::EINTR, libc::ETIMEDOUT].contains(&error.code);
        if result == 0 || is_expected { Ok(()) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_never_ends_early() {
        let until = now() + 200_000;
        sleep_until(until);
        assert!(now() >= until);
        // One in the past does not sleep.
        sleep_until(1);
    }

    #[test]
    fn a_doorbell_that_was_rung_before_does_not_sleep() {
        let bell = Doorbell::default();
        let seen = bell.look();
        bell.ring();
        bell.sleep(seen, None).unwrap();
        let until = now() + 100_000;
        bell.sleep(bell.look(), Some(until)).unwrap();
        assert!(now() >= until);
    }
}
