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
/// Blocks of memory that were given again without a call.
pub(crate) static AGAIN: AtomicU64 = AtomicU64::new(0);

/// What this library does, from `GPUOS_JOBS`: words with commas between them, or `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Jobs and their classes can be seen by a tracer; waits are the runtime's own.
    pub(crate) identity: bool,
    /// Waits sleep until shortly before the end.
    pub(crate) wait: bool,
    /// Device memory that was freed is kept for the next block of the same size.
    pub(crate) arena: bool,
}

impl Parts {
    /// Of a value; `None` where a word is none of these.
    fn of(value: &str) -> Option<Self> {
        let mut parts = Self::default();
        for word in value.split(',').filter(|word| !word.is_empty() && *word != "off") {
            match word {
                "identity" => parts.identity = true,
                "wait" => parts.wait = true,
                "arena" => parts.arena = true,
                _ => return None,
            }
        }
        Some(parts)
    }
}

static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    let value = std::env::var("GPUOS_JOBS").unwrap_or_else(|_| "identity,wait".to_owned());
    Parts::of(&value).unwrap_or_else(|| {
        say(&format!("gpuos-jobs: GPUOS_JOBS=`{value}`: words are identity, wait, arena, off; nothing is changed\n"));
        Parts::default()
    })
});

/// What this library does while it is on.
pub(crate) fn parts() -> Parts {
    *PARTS
}

static IS_ON: LazyLock<AtomicBool> = LazyLock::new(|| AtomicBool::new(parts() != Parts::default()));

/// Whether what is launched becomes jobs.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed) && (parts().identity || parts().wait)
}

/// Whether memory is kept.
pub(crate) fn keeps_memory() -> bool {
    IS_ON.load(Ordering::Relaxed) && parts().arena
}

/// Turns jobs on (1) or off (0), from now on; returns what it was.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn gpuos_job_preload_switch(on: i32) -> i32 {
    let before = i32::from(IS_ON.swap(on != 0, Ordering::Relaxed));
    if on == 0 {
        crate::memory::give_all_back();
    }
    before
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
        "gpuos-jobs: {} launches, {} waits: {} as jobs of {classes} classes ({sleeps} slept), {} passed through; {} functions without a place, {} in a form that is not known; {} blocks again\n",
        of(&LAUNCHES),
        of(&WAITS),
        of(&JOBS),
        of(&PASSED),
        of(&UNPLACED),
        of(&UNKNOWN),
        of(&AGAIN)
    );
    say(&text);
}

fn say(text: &str) {
    // SAFETY: the bytes of a text; an error cannot be reported.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}
