//! Libraries that panic on a damaged file.

use std::{panic::AssertUnwindSafe, sync::Mutex};

/// Calls `work`; `None` when it panicked, which nobody gets to see.
pub fn without_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    // The hook is the process's: one caller at a time.
    static HOOK: Mutex<()> = Mutex::new(());
    let _one = HOOK.lock();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    done.ok()
}
