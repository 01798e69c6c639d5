//! Messages to the person on standard error. That nobody reads them is never a failure of the tool.
//!
//! While the terminal is a screen they are buffered, and flushed when it is one no longer.

use std::{
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use gpuos_model::units;

use crate::screen::Patient;

/// What is reported while a screen is shown: `None` when there is none.
static BUFFER: Mutex<Option<String>> = Mutex::new(None);

fn lock() -> std::sync::MutexGuard<'static, Option<String>> {
    BUFFER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on the terminal is a screen, and messages are kept until [`flush`].
pub fn buffer() {
    lock().get_or_insert_default();
}

/// Prints what was kept; from now on messages are printed at once.
pub fn flush() {
    let text = lock().take();
    if let Some(text) = text {
        write(&text);
    }
}

/// The last line of what is kept.
#[must_use]
pub fn last_buffered() -> Option<String> {
    lock().as_ref()?.lines().last().map(str::to_owned)
}

/// Prints text as it is.
pub fn print(text: &str) {
    if let Some(buffer) = lock().as_mut() {
        buffer.push_str(text);
        return;
    }
    write(text);
}

fn write(text: &str) {
    let _ = Patient(std::io::stderr()).write_all(text.as_bytes());
}

/// Prints lines of which the first begins with the name of the program. What a terminal would obey is escaped: a message may
/// quote paths, words and files of others.
pub fn report(message: &str) {
    let lines: Vec<String> = message.split('\n').map(units::printable).collect();
    print(&format!("gpuos-trace: {}\n", lines.join("\n")));
}
