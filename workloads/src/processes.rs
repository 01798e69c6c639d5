//! `--processes`: the same work in other processes at once, each with a runtime and a context of its own.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

/// The option that a process which was started by another does not get.
const OPTION: &str = "--processes";

/// Processes that do the same as this one.
pub(crate) struct Others(Vec<Child>);

impl Others {
    /// Starts more processes. They begin as they come, and are not held back for each other. What they print goes nowhere, what
    /// they complain of goes where this one's complaints go.
    ///
    /// # Errors
    /// One cannot be started.
    pub(crate) fn start(count: u32) -> io::Result<Self> {
        let failed = |error: io::Error| io::Error::other(format!("starting {count} other processes: {error}"));
        let parent = std::process::id();
        let mut others = Self(Vec::new());
        for _ in 0..count {
            let mut command = Command::new(std::env::current_exe().map_err(failed)?);
            command.args(without_option(std::env::args_os().skip(1))).stdout(Stdio::null());
            // By fork and exec: glibc's posix_spawn asks for the handler of every signal, 126 calls that no runtime makes.
            // SAFETY: two system calls, between fork and exec.
            unsafe { command.pre_exec(move || end_with(parent)) };
            others.0.push(command.spawn().map_err(failed)?);
        }
        Ok(others)
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// One of them failed.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        for child in &mut self.0 {
            let status = child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("one of the other processes failed: {status}")));
            }
        }
        Ok(())
    }
}

/// Lets the kernel end this process with its parent, which may have ended already.
fn end_with(parent: u32) -> io::Result<()> {
    // SAFETY: the option takes a signal.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it takes nothing and cannot fail.
    let is_there = unsafe { libc::getppid() } == parent.cast_signed();
    if is_there { Ok(()) } else { Err(io::Error::other("the first process has ended")) }
}

impl Drop for Others {
    /// Where one process fails, the others have nothing to be compared with.
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Those that were waited for are left alone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn without_option(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut is_value = false;
    for argument in arguments {
        let text = argument.to_string_lossy();
        if is_value || text.starts_with(&format!("{OPTION}=")) {
            is_value = false;
        } else if text == OPTION {
            is_value = true;
        } else {
            kept.push(argument);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_are_one_process_each() {
        let of = |line: &str| without_option(line.split(' ').map(OsString::from));
        for line in ["alloc --processes 4 --iters 1", "alloc --processes=4 --iters 1"] {
            assert_eq!(of(line), ["alloc", "--iters", "1"]);
        }
    }
}
