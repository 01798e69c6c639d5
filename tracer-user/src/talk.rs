//! Talking to the person on standard error. That nobody listens is never a failure of the tool.

use std::{
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use crate::sink::units;

/// What is said while a screen is shown: `None` when there is none.
static HELD: Mutex<Option<String>> = Mutex::new(None);

fn held() -> std::sync::MutexGuard<'static, Option<String>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on the terminal is a screen, and what is said waits.
pub(crate) fn hold() {
    held().get_or_insert_default();
}

/// Says what has waited.
pub(crate) fn let_go() {
    let text = held().take();
    if let Some(text) = text {
        write(&text);
    }
}

/// What waits, its last line.
pub(crate) fn waiting() -> Option<String> {
    held().as_ref()?.lines().last().map(str::to_owned)
}

/// Prints text as it is.
pub fn print(text: &str) {
    if let Some(held) = held().as_mut() {
        held.push_str(text);
        return;
    }
    write(text);
}

fn write(text: &str) {
    let mut rest = text.as_bytes();
    let mut stderr = std::io::stderr().lock();
    while !rest.is_empty() {
        match stderr.write(rest) {
            Ok(0) => return,
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // The command may have made the shared stream non-blocking.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                use std::os::fd::AsFd as _;
                let mut ready = [nix::poll::PollFd::new(stderr.as_fd(), nix::poll::PollFlags::POLLOUT)];
                if nix::poll::poll(&mut ready, nix::poll::PollTimeout::NONE).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Prints lines of which the first begins with the name of the program. What a terminal would obey is escaped: a message may
/// quote paths, words and files of others.
pub fn say(message: &str) {
    let lines: Vec<String> = message.split('\n').map(units::printable).collect();
    print(&format!("gpuos-trace: {}\n", lines.join("\n")));
}
