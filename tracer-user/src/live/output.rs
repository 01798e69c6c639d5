//! The command's output while the screen is taken: read from a terminal of its own, kept in a file without a name, and
//! given to standard output when the view is over.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read, Seek as _, Write as _},
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gpuos_host::{diagnostics, screen::Patient};
use gpuos_model::units;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{OpenptyResult, openpty},
};

/// As many bytes of its end are looked at for the pane.
const END: usize = 16 << 10;

/// As many bytes of its beginning are kept on disk.
const MOST: u64 = 64 << 20;

/// How long what is left is read after the command's end.
const PATIENCE: Duration = Duration::from_secs(2);

/// What has been read so far.
#[derive(Debug)]
struct Held {
    /// The beginning of it, and how many bytes that is.
    spool: File,
    kept: u64,
    /// Bytes after them that found no place.
    dropped: u64,
    /// The end of all.
    end: Vec<u8>,
    /// From now on straight to standard output.
    is_released: bool,
    /// The command has ended: what is there is all.
    is_over: bool,
}

/// The command's output.
#[derive(Debug)]
pub struct Output {
    held: Arc<Mutex<Held>>,
    reader: JoinHandle<io::Result<()>>,
}

/// The end of the terminal that the command gets.
#[derive(Debug)]
pub struct CommandSide {
    terminal: OwnedFd,
    nothing: File,
}

impl CommandSide {
    /// Streams of the command and what they are to be: those that are our terminal, and standard input, whose keys are
    /// for the view.
    #[must_use]
    pub fn streams(&self) -> Vec<(RawFd, RawFd)> {
        let mut streams = Vec::new();
        if io::stdin().is_terminal() {
            streams.push((0, self.nothing.as_raw_fd()));
        }
        if io::stdout().is_terminal() {
            streams.push((1, self.terminal.as_raw_fd()));
        }
        if io::stderr().is_terminal() {
            streams.push((2, self.terminal.as_raw_fd()));
        }
        streams
    }
}

impl Output {
    /// A terminal for the command, as large as ours. The thread that reads it begins with [`Output::read`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn prepare() -> io::Result<(OwnedFd, CommandSide)> {
        // SAFETY: plain data, for which zero is valid.
        let mut size: libc::winsize = unsafe { std::mem::zeroed() };
        // SAFETY: the call fills it, or leaves zeros.
        unsafe { libc::ioctl(2, libc::TIOCGWINSZ, &raw mut size) };
        let OpenptyResult { master, slave } = openpty(&size, None)?;
        // What the command writes must not come back as its input.
        let mut modes = nix::sys::termios::tcgetattr(&slave)?;
        modes.local_flags.remove(nix::sys::termios::LocalFlags::ECHO);
        nix::sys::termios::tcsetattr(&slave, nix::sys::termios::SetArg::TCSANOW, &modes)?;
        for fd in [&master, &slave] {
            fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        }
        Ok((master, CommandSide { terminal: slave, nothing: File::open("/dev/null")? }))
    }

    /// Begins to read.
    ///
    /// # Errors
    /// When there is no room for a temporary file.
    pub fn read(master: OwnedFd) -> io::Result<Self> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let held = Arc::new(Mutex::new(Held {
            spool: tempfile::tempfile()?,
            kept: 0,
            dropped: 0,
            end: Vec::new(),
            is_released: false,
            is_over: false,
        }));
        let ours = held.clone();
        let reader = std::thread::Builder::new().name("output".into()).spawn(move || follow(&master, &ours))?;
        Ok(Self { held, reader })
    }

    fn held(held: &Mutex<Held>) -> std::sync::MutexGuard<'_, Held> {
        held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last lines, without what steers a terminal.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&Self::held(&self.held).end).into_owned();
        let mut lines: Vec<String> = anstream::adapter::strip_str(&text)
            .to_string()
            .lines()
            // A carriage return begins the line anew.
            .map(|line| line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().to_owned())
            .collect();
        drop(lines.drain(..lines.len().saturating_sub(200)));
        lines
    }

    /// Gives what is there to standard output, and from now on everything at once.
    pub fn release(&self) {
        Self::held(&self.held).release();
    }

    /// Reads what is left when the command has ended, and gives it to standard output.
    pub fn finish(self) {
        Self::held(&self.held).is_over = true;
        // What was written before the command ended is in the terminal's buffer already.
        let Self { held, reader } = self;
        if !matches!(reader.join(), Ok(Ok(()))) {
            diagnostics::report("the command's output could not be read to its end");
        }
        Self::held(&held).release();
    }
}

impl Held {
    /// Keeps more of it. What the disk has no room for is counted, and the command notices nothing.
    fn keep(&mut self, bytes: &[u8]) {
        let length = bytes.len() as u64;
        // Without gaps: after the first that found no place, none is looked for.
        if self.dropped == 0 && self.kept + length <= MOST && self.spool.write_all(bytes).is_ok() {
            self.kept += length;
        } else {
            self.dropped += length;
        }
        self.end.extend_from_slice(bytes);
        let surplus = self.end.len().saturating_sub(END);
        drop(self.end.drain(..surplus));
    }

    fn release(&mut self) {
        if std::mem::replace(&mut self.is_released, true) || self.spool.rewind().is_err() {
            return;
        }
        give(&mut (&self.spool).take(self.kept));
        let known = self.end.len().min(usize::try_from(self.dropped).unwrap_or(usize::MAX));
        if self.dropped != 0 {
            let dropped = units::plural(self.dropped - known as u64, "byte", "bytes");
            // What was kept may end inside of a line.
            diagnostics::print("\n");
            diagnostics::report(&format!(
                "{dropped} of the command's output found no place in the folder for temporary files; what follows is its end"
            ));
            give(&mut &self.end[self.end.len() - known..]);
        }
    }
}

/// Nobody there to read is no failure of the trace.
fn give(from: &mut impl Read) {
    // What was read is standard error's alone where standard output goes elsewhere.
    let _ = if io::stdout().is_terminal() {
        io::copy(from, &mut Patient(io::stdout()))
    } else {
        io::copy(from, &mut Patient(io::stderr()))
    };
}

/// Reads until the command's side is closed, or everything that was written has been read after the end.
fn follow(master: &OwnedFd, held: &Mutex<Held>) -> io::Result<()> {
    let mut file = File::from(master.try_clone()?);
    let mut buffer = [0_u8; 8192];
    let mut over: Option<Instant> = None;
    loop {
        // Descendants may write for ever.
        if Output::held(held).is_over && over.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return Ok(());
        }
        let mut ready = [PollFd::new(std::os::fd::AsFd::as_fd(master), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::try_from(Duration::from_millis(50)).unwrap_or(PollTimeout::ZERO))?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                let mut held = Output::held(held);
                if held.is_released {
                    give(&mut &buffer[..length]);
                } else {
                    held.keep(&buffer[..length]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Output::held(held).is_over {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody has the other side open any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
