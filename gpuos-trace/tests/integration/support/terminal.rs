//! A terminal with a shell, for tests of what people see.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::stat::Mode,
};

/// Size of the picture; the terminal itself is as large only after `stty`.
pub(crate) const ROWS: u16 = 40;
pub(crate) const COLUMNS: u16 = 140;

/// A shell on a terminal of its own.
pub(crate) struct Terminal {
    shell: Child,
    screen: File,
    seen: String,
    /// What a person sees.
    picture: vt100::Parser,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        // Close-on-exec from the start: other tests start programs meanwhile, and count their fds.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave: OwnedFd = nix::fcntl::open(ptsname_r(&master).unwrap().as_str(), flags, Mode::empty()).unwrap();
        let mut command = Command::new("bash");
        command.args(["--norc", "--noprofile", "-i"]).env("PS1", "ready> ").env("TERM", "dumb");
        let stream = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        // A session of its own, on this terminal.
        let begin = || {
            nix::unistd::setsid()?;
            // SAFETY: numbers.
            if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        };
        // SAFETY: two async-signal-safe calls.
        unsafe { command.pre_exec(begin) };
        let mut terminal = Self {
            shell: command.spawn().unwrap(),
            screen: File::from(OwnedFd::from(master)),
            seen: String::new(),
            picture: vt100::Parser::new(ROWS, COLUMNS, 0),
        };
        terminal.expect("ready> ");
        terminal
    }

    pub(crate) fn send(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads for a while.
    fn read(&mut self) {
        let mut ready = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(200_u8)).unwrap() > 0 {
            let mut buffer = [0; 4096];
            let length = self.screen.read(&mut buffer).unwrap_or(0);
            self.seen += &String::from_utf8_lossy(&buffer[..length]);
            self.picture.process(&buffer[..length]);
        }
    }

    /// Reads until a person sees `text`; returns the whole picture, of [`ROWS`] by [`COLUMNS`].
    pub(crate) fn see(&mut self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let picture = self.picture.screen().contents();
            if picture.contains(text) {
                return picture;
            }
            assert!(Instant::now() < deadline, "no `{text}` in:\n{picture}");
            self.read();
        }
    }

    /// Whether a program has taken the screen.
    pub(crate) fn is_taken(&self) -> bool {
        self.picture.screen().alternate_screen()
    }

    /// Reads until `text` appears; returns what came before it.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(at) = self.seen.find(text) {
                return self.seen.drain(..at + text.len()).collect();
            }
            assert!(Instant::now() < deadline, "no `{text}` in:\n{}", self.seen);
            self.read();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
