//! Standard streams as people see them: what a terminal would obey does not reach one, and nothing is lost when a command
//! made the stream non-blocking that it shares with this program.

use std::{
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// A stream that is waited for where it takes nothing at the moment. It has no buffer.
#[derive(Debug)]
pub struct Patient<F>(pub F);

impl<F: AsFd> Write for Patient<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match nix::unistd::write(&self.0, bytes) {
                Err(Errno::EAGAIN) => wait_for(self.0.as_fd())?,
                Err(Errno::EINTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wait_for(stream: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::new(stream, PollFlags::POLLOUT)], PollTimeout::NONE) {
        Err(Errno::EINTR) | Ok(_) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Standard output: on a terminal without what the terminal would obey, which a traced program may have put into
/// names; elsewhere as it is.
#[must_use]
pub fn standard_output() -> Box<dyn Write> {
    let stdout = io::stdout();
    if io::IsTerminal::is_terminal(&stdout) {
        Box::new(Screen { to: Patient(stdout), may_be_control: false })
    } else {
        Box::new(Patient(stdout))
    }
}

/// Writes control characters but the end of a line and the tabulator as `?`.
struct Screen<W> {
    to: W,
    /// The last byte was the first of U+0080 to U+00BF, of which U+0080 to U+009F are control characters.
    may_be_control: bool,
}

impl<W: Write> Write for Screen<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let is_control = (byte < 0x20 && byte != b'\n' && byte != b'\t') || byte == 0x7f;
            let is_second = self.may_be_control && (0x80..0xa0).contains(&byte);
            self.may_be_control = byte == 0xc2;
            shown.push(if is_control {
                b'?'
            } else if is_second {
                0xbf
            } else {
                byte
            });
        }
        self.to.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Data on standard output, as it is. A reader that has seen enough is no failure.
///
/// # Errors
/// What the kernel says.
pub fn print(text: &str) -> io::Result<()> {
    match Patient(io::stdout()).write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    #[test]
    fn a_pipe_that_somebody_made_non_blocking_gets_everything() {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
        let bytes = vec![b'x'; 1 << 20];
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            File::from(read).read_to_end(&mut all).map(|_| all)
        });
        Patient(write).write_all(&bytes).unwrap();
        assert!(reader.join().unwrap().unwrap() == bytes);
    }

    #[test]
    fn a_terminal_gets_nothing_that_it_would_obey() {
        let mut shown = Vec::new();
        let mut screen = Screen { to: &mut shown, may_be_control: false };
        for part in ["a\u{1b}[2J\tb\n", "é\u{9b}31m\u{a0}"] {
            // Byte by byte: a character may come in two parts.
            part.bytes().for_each(|byte| screen.write_all(&[byte]).unwrap());
        }
        assert_eq!(String::from_utf8(shown).unwrap(), "a?[2J\tb\né\u{bf}31m\u{a0}");
    }
}
