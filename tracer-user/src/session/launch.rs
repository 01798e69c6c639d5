//! The suspended child: it is forked first, waits on a pipe until tracing is in place, then
//! executes the command. Nothing is lost before its first `execve`, and it is otherwise as its
//! caller would have started it: same streams, process group, signals, environment.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use gpuos_host::fds::pidfd_open;
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::signal::{SigHandler, Signal, signal},
    unistd::{AccessFlags, ForkResult, Pid, access, fork, pipe2},
};

/// Why the command could not be started. The exit code is that of `env` and `nohup`.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No such program.
    #[error("`{0}`: command not found\nhint: {hint}", hint = not_found_hint(.0))]
    NotFound(String),
    /// There is such a file, but it is no program.
    #[error("cannot execute `{path}`: {errno}\nhint: {hint}", hint = not_executable_hint(*.errno))]
    NotExecutable {
        /// The file.
        path: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The tracer itself failed.
    #[error("cannot start a process: {what}: {errno}")]
    System {
        /// The step.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

fn not_found_hint(command: &str) -> &'static str {
    if command.contains('/') {
        "check the path; it is relative to the current directory"
    } else {
        "no directory in PATH has it; sudo resets PATH, so give the path of the file or use `sudo env PATH=\"$PATH\" gpuos-trace …`"
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of all errors few have a hint of their own")]
fn not_executable_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOEXEC => {
            "a script needs a first line such as `#!/bin/sh`; or run it as `gpuos-trace run -- sh SCRIPT`"
        }
        Errno::EACCES => "`ls -l` shows its permissions; `chmod +x` makes it executable",
        _ => "`file` tells what it is",
    }
}

impl LaunchError {
    /// 127 for a command that is not there, 126 for one that cannot be executed, 125 for the tracer's own failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable { .. } => 126,
            Self::System { .. } => 125,
        }
    }
}

/// A user to run a command as.
#[derive(Clone, Debug)]
pub struct Account {
    name: CString,
    user: nix::unistd::Uid,
    group: nix::unistd::Gid,
    home: PathBuf,
}

/// Why a command cannot run as a user.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no such user.
    #[error("there is no user `{0}`\nhint: `getent passwd` lists users; a number needs no entry there")]
    Unknown(String),
    /// Only root may become somebody else.
    #[error("only root can run the command as `{0}`\nhint: `sudo gpuos-trace run -u {0} -- …`")]
    NotRoot(String),
}

impl Account {
    /// By name or number.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn find(name: &str) -> Result<Self, AccountError> {
        let unknown = |_| AccountError::Unknown(name.to_owned());
        let entry = match name.parse::<u32>() {
            Ok(number) => nix::unistd::User::from_uid(number.into()),
            Err(_) => nix::unistd::User::from_name(name),
        }
        .map_err(unknown)?;
        let account = match (entry, name.parse::<u32>()) {
            (Some(entry), _) => Self {
                name: CString::new(entry.name).map_err(|_| AccountError::Unknown(name.to_owned()))?,
                user: entry.uid,
                group: entry.gid,
                home: entry.dir,
            },
            (None, Ok(number)) => {
                Self { name: c"".to_owned(), user: number.into(), group: number.into(), home: PathBuf::from("/") }
            }
            (None, Err(_)) => return Err(AccountError::Unknown(name.to_owned())),
        };
        // The kernel reads −1 as "do not change".
        if account.user.as_raw() == u32::MAX {
            return Err(AccountError::Unknown(name.to_owned()));
        }
        let us = nix::unistd::Uid::effective();
        if !us.is_root() && us != account.user {
            return Err(AccountError::NotRoot(name.to_owned()));
        }
        Ok(account)
    }

    /// What `su` would set.
    fn environment(&self) -> [(&'static str, OsString); 3] {
        let name = OsStr::from_bytes(self.name.as_bytes()).to_owned();
        [("HOME", self.home.clone().into_os_string()), ("USER", name.clone()), ("LOGNAME", name)]
    }
}

/// A command whose file was found.
#[derive(Clone, Debug)]
pub struct Command {
    path: CString,
    arguments: Vec<CString>,
}

impl Command {
    /// Finds the file of a command line as a shell would, before anything is started.
    ///
    /// # Errors
    /// [`LaunchError::NotFound`] or [`LaunchError::NotExecutable`].
    pub fn find(line: &[OsString]) -> Result<Self, LaunchError> {
        let name = line.first().map_or(OsStr::new(""), OsString::as_os_str);
        let path = find_file(name)?;
        // The words came from a command line, where a NUL byte cannot be.
        let c_string =
            |word: &OsStr| CString::new(word.as_bytes()).map_err(|_| LaunchError::NotFound(name.display().to_string()));
        Ok(Self {
            path: c_string(path.as_os_str())?,
            arguments: line.iter().map(|word| c_string(word)).collect::<Result<_, _>>()?,
        })
    }
}

fn find_file(name: &OsStr) -> Result<PathBuf, LaunchError> {
    let refused = |path: &Path, errno| LaunchError::NotExecutable { path: path.display().to_string(), errno };
    let usable = |path: &Path| match path.metadata() {
        Ok(data) if data.is_dir() => Err(Errno::EISDIR),
        Ok(_) => access(path, AccessFlags::X_OK),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOENT))),
    };
    if name.is_empty() {
        return Err(LaunchError::NotFound(String::new()));
    }
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match usable(&path) {
            Ok(()) => Ok(path),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Err(LaunchError::NotFound(name.display().to_string())),
            Err(errno) => Err(refused(&path, errno)),
        };
    }
    let mut unusable = None;
    let directories = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    for directory in env::split_paths(&directories) {
        let path = if directory.as_os_str().is_empty() { Path::new(".").join(name) } else { directory.join(name) };
        match usable(&path) {
            Ok(()) => return Ok(path),
            Err(Errno::EACCES) => unusable = Some(refused(&path, Errno::EACCES)),
            Err(_) => {}
        }
    }
    Err(unusable.unwrap_or_else(|| LaunchError::NotFound(name.display().to_string())))
}

/// Disposition of SIGPIPE before Rust's runtime set it to "ignore".
static INHERITED_SIGPIPE: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);

/// Runs before `main` and before Rust's runtime, the only moment to see what the caller chose.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER_SIGPIPE: extern "C" fn() = {
    extern "C" fn remember() {
        if let Some(disposition) = super::signals::disposition_of(libc::SIGPIPE) {
            INHERITED_SIGPIPE.store(disposition, Relaxed);
        }
    }
    remember
};

/// What a command gets that this process does not have.
#[derive(Debug, Default)]
pub struct SpawnOptions<'a> {
    /// Whom it runs as; `None`: as we do.
    pub account: Option<&'a Account>,
    /// Added to its environment.
    pub variables: &'a [(&'static str, OsString)],
    /// Its streams, by number, and the fds that they are to be.
    pub streams: Vec<(RawFd, RawFd)>,
    /// A seccomp filter; empty: none.
    pub filter: Vec<libc::sock_filter>,
}

/// A child that waits to be released. Dropping it ends it before it executed anything.
#[derive(Debug)]
pub struct Suspended {
    pid: Pid,
    /// Or why there is none: gVisor of 2022 has no such descriptors, and ptrace needs none.
    pidfd: Result<OwnedFd, Errno>,
    go: File,
    report: File,
    path: String,
}

/// A child that runs the command.
#[derive(Debug)]
pub struct Running {
    /// Its process id in the tracer's pid namespace.
    pub pid: Pid,
    /// Readable when it has exited.
    pub pidfd: OwnedFd,
}

impl Suspended {
    /// Forks the child. To be called while this process has a single thread and has not touched
    /// its signals yet: the child inherits them.
    ///
    /// # Errors
    /// [`LaunchError::System`].
    pub fn spawn(command: &Command, given: &SpawnOptions<'_>) -> Result<Self, LaunchError> {
        let account = given.account;
        let system = |what| move |errno| LaunchError::System { what, errno };
        let (go_read, go_write) = pipe2(OFlag::O_CLOEXEC).map_err(system("pipe"))?;
        let (report_read, report_write) = pipe2(OFlag::O_CLOEXEC).map_err(system("pipe"))?;
        let mut replaced = given.variables.to_vec();
        replaced.extend(account.map(Account::environment).into_iter().flatten());
        let environment: Vec<CString> = env::vars_os()
            .filter(|(name, _)| !replaced.iter().any(|(replaced, _)| name == replaced))
            .chain(replaced.iter().cloned().map(|(name, value)| (name.into(), value)))
            .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
            .collect();
        // Looked up here: the child may not allocate.
        let groups = match account.filter(|_| nix::unistd::Uid::effective().is_root()) {
            Some(account) if account.name.is_empty() => Some(vec![account.group]),
            Some(account) => {
                Some(nix::unistd::getgrouplist(&account.name, account.group).map_err(system("getgrouplist"))?)
            }
            None => None,
        };
        let identity = account.zip(groups.as_deref());
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (arguments, environment_pointers) = (pointers(&command.arguments), pointers(&environment));

        // SAFETY: one thread, and the child calls nothing that is not async-signal-safe.
        match unsafe { fork() }.map_err(system("fork"))? {
            ForkResult::Child => {
                drop((go_write, report_read));
                // SAFETY: see `wait_and_execute`.
                unsafe {
                    wait_and_execute(
                        &go_read,
                        &report_write,
                        identity,
                        (&given.streams, &given.filter),
                        &command.path,
                        &arguments,
                        &environment_pointers,
                    )
                }
            }
            ForkResult::Parent { child } => {
                drop((go_read, report_write));
                let pidfd = pidfd_open(child.as_raw().cast_unsigned(), 0)
                    .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)));
                Ok(Self {
                    pid: child,
                    pidfd,
                    go: go_write.into(),
                    report: report_read.into(),
                    path: command.path.to_string_lossy().into_owned(),
                })
            }
        }
    }

    /// Its process number, as this process sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// The child, as the kernel wants it named.
    ///
    /// # Errors
    /// [`LaunchError::System`] where the kernel has no descriptors of processes.
    pub fn pidfd(&self) -> Result<BorrowedFd<'_>, LaunchError> {
        self.pidfd
            .as_ref()
            .map(OwnedFd::as_fd)
            .map_err(|errno| LaunchError::System { what: "pidfd_open", errno: *errno })
    }

    /// Lets the child execute the command and waits until it has.
    ///
    /// # Errors
    /// [`LaunchError::NotExecutable`] when the kernel refuses the file.
    pub fn release(mut self) -> Result<Running, LaunchError> {
        self.pidfd()?;
        self.start()?;
        self.executed().inspect_err(|_| {
            let _ = nix::sys::wait::waitpid(self.pid, None);
        })?;
        let pidfd = self.pidfd.map_err(|errno| LaunchError::System { what: "pidfd_open", errno })?;
        Ok(Running { pid: self.pid, pidfd })
    }

    /// Lets the child execute the command, and does not wait.
    ///
    /// # Errors
    /// [`LaunchError::System`].
    pub fn start(&mut self) -> Result<(), LaunchError> {
        self.go.write_all(b"x").map_err(|error| system("releasing the child", &error))
    }

    /// Waits until it has executed the command, or could not. Who is to reap it does that.
    ///
    /// # Errors
    /// [`LaunchError::NotExecutable`] when the kernel refuses the file.
    pub fn executed(&mut self) -> Result<(), LaunchError> {
        let mut errno = [0; 4];
        match self.report.read_exact(&mut errno) {
            // The pipe was closed by a successful execve.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(system("waiting for execve", &error)),
            Ok(()) => {
                let errno = Errno::from_raw(i32::from_ne_bytes(errno));
                // A missing interpreter is ENOENT although the file is there.
                Err(LaunchError::NotExecutable { path: self.path.clone(), errno })
            }
        }
    }
}

fn system(what: &'static str, error: &io::Error) -> LaunchError {
    LaunchError::System { what, errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)) }
}

/// The child's life before the command.
///
/// # Safety
/// Runs between fork and exec: only system calls, nothing that allocates or locks.
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "system calls between fork and exec, one after the other")]
unsafe fn wait_and_execute(
    go: &OwnedFd,
    report: &OwnedFd,
    identity: Option<(&Account, &[nix::unistd::Gid])>,
    (streams, filter): (&[(RawFd, RawFd)], &[libc::sock_filter]),
    path: &CString,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> ! {
    let mut byte = 0_u8;
    // SAFETY: system calls on live fds and buffers; pointers are NUL-terminated lists.
    unsafe {
        loop {
            match libc::read(go.as_raw_fd(), (&raw mut byte).cast(), 1) {
                1 => break,
                -1 if Errno::last() == Errno::EINTR => {}
                // The tracer gave up or died.
                _ => libc::_exit(125),
            }
        }
        if INHERITED_SIGPIPE.load(Relaxed) != libc::SIG_IGN {
            let _ = signal(Signal::SIGPIPE, SigHandler::SigDfl);
        }
        for (stream, file) in streams {
            libc::dup2(*file, *stream);
        }
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        let install = || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0;
        // Without a right for it, only who can get no more rights may have a filter; under ptrace it gets none anyway.
        let filtered =
            filter.is_empty() || install() || libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && install();
        let identified = filtered
            && match identity {
                None => true,
                Some((account, groups)) => {
                    libc::setgroups(groups.len(), groups.as_ptr().cast()) == 0
                        && libc::setgid(account.group.as_raw()) == 0
                        && libc::setuid(account.user.as_raw()) == 0
                }
            };
        if identified {
            libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        }
        let errno = Errno::last_raw().to_ne_bytes();
        libc::write(report.as_raw_fd(), errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(words: &[&str]) -> Result<Command, LaunchError> {
        Command::find(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn finds_commands_as_a_shell_does() {
        assert_eq!(find(&["/bin/sh", "-c", "true"]).unwrap().arguments.len(), 3);
        assert!(find(&["sh"]).unwrap().path.to_str().unwrap().ends_with("/sh"));
    }

    #[test]
    fn exit_codes_tell_missing_from_unusable() {
        assert_eq!(find(&["/no/such/file"]).unwrap_err().exit_code(), 127);
        assert_eq!(find(&["no-such-command-anywhere"]).unwrap_err().exit_code(), 127);
        assert_eq!(find(&[""]).unwrap_err().exit_code(), 127);
        assert_eq!(find(&["/"]).unwrap_err().exit_code(), 126);
        assert_eq!(find(&["/etc/passwd"]).unwrap_err().exit_code(), 126);
    }
}
