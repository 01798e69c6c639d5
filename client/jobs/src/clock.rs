//! The clock that deadlines are on, and sleeping until one of its times.

use std::cell::Cell;

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
}
