//! What was counted, and the switch that turns jobs on and off within one process.

use std::sync::{
    LazyLock, Once,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Waits that the program made.
pub(crate) static WAITS: AtomicU64 = AtomicU64::new(0);
/// Of those, as jobs.
pub(crate) static JOBS: AtomicU64 = AtomicU64::new(0);
/// Of those, passed through: nothing was launched before, or it is not understood.
pub(crate) static PASSED: AtomicU64 = AtomicU64::new(0);
/// Launches.
pub(crate) static LAUNCHES: AtomicU64 = AtomicU64::new(0);
/// Functions of which one name had more pointers than there are places.
pub(crate) static UNPLACED: AtomicU64 = AtomicU64::new(0);
/// Functions in a form that is not known.
pub(crate) static UNKNOWN: AtomicU64 = AtomicU64::new(0);

static IS_ON: LazyLock<AtomicBool> =
    LazyLock::new(|| AtomicBool::new(std::env::var_os("GPUOS_JOBS").is_none_or(|value| value != "off")));

/// Whether waits are jobs.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Turns jobs on (1) or off (0), from now on; returns what it was.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn gpuos_job_preload_switch(on: i32) -> i32 {
    i32::from(IS_ON.swap(on != 0, Ordering::Relaxed))
}

/// Counts one.
pub(crate) fn count(what: &AtomicU64) {
    what.fetch_add(1, Ordering::Relaxed);
}

/// Once: says at the end of the program what was counted, where it was asked to.
pub(crate) fn tell_at_the_end() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("GPUOS_JOBS_STATS").is_some() {
            // SAFETY: the function takes nothing and unwinds nowhere.
            unsafe { libc::atexit(tell) };
        }
    });
}

extern "C" fn tell() {
    let of = |what: &AtomicU64| what.load(Ordering::Relaxed);
    let (classes, sleeps) = crate::waits::learnt();
    let text = format!(
        "gpuos-jobs: {} launches, {} waits: {} as jobs of {classes} classes ({sleeps} slept), {} passed through; {} functions without a place, {} in a form that is not known\n",
        of(&LAUNCHES),
        of(&WAITS),
        of(&JOBS),
        of(&PASSED),
        of(&UNPLACED),
        of(&UNKNOWN)
    );
    // SAFETY: bytes of this frame; an error cannot be reported.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}
