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
    /// Starts so many. What they find goes nowhere; what they complain of goes where ours does.
    pub(crate) fn start(count: u32) -> io::Result<Self> {
        let mut others = Self(Vec::new());
        for _ in 0..count {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(without_option(std::env::args_os().skip(1))).stdout(Stdio::null());
            // By fork and exec: glibc's posix_spawn asks for the handler of every signal, 126 calls that no runtime makes.
            // SAFETY: nothing is done between the two.
            unsafe { command.pre_exec(|| Ok(())) };
            others.0.push(command.spawn()?);
        }
        Ok(others)
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// One of them failed.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        for mut child in self.0.drain(..) {
            let status = child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("one of the other processes failed: {status}")));
            }
        }
        Ok(())
    }
}

impl Drop for Others {
    /// Where this process fails, the others have nothing to be compared with.
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended already.
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
