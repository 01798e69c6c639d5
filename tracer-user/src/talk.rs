//! Talking to the person on standard error. That nobody listens is never a failure of the tool.

use std::io::Write as _;

use crate::sink::units;

/// Prints text as it is.
pub fn print(text: &str) {
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
