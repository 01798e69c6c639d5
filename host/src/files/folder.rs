//! Folders into which files are written: the way to one is walked step by step, and no step follows what another user
//! may have planted.
//!
//! A folder is *shared* when somebody else can make names in it: it belongs to another user, or its mode lets others
//! write. In a shared folder a link of somebody else is not followed on the way, and what has the name of an output
//! already is neither followed nor opened nor replaced, unless it is the caller's own regular file.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{MetadataExt as _, PermissionsExt as _, fchown},
        },
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    NixPath as _,
    errno::Errno,
    fcntl::OFlag,
    sys::{stat::Mode, statfs},
};

/// As many links are followed on the way to one name; the kernel follows as many.
const MOST_LINKS: usize = 40;

/// A look at a name, which opens nothing.
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Gives a file of a folder another name that nothing has. nix has this call for glibc alone, and the tracer is built with musl, too.
fn rename_to_new(folder: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> nix::Result<()> {
    let folder = folder.as_raw_fd();
    from.with_nix_path(|from| {
        to.with_nix_path(|to| {
            // SAFETY: the names live as long as the call, which keeps nothing.
            let result = unsafe {
                libc::syscall(libc::SYS_renameat2, folder, from.as_ptr(), folder, to.as_ptr(), libc::RENAME_NOREPLACE)
            };
            Errno::result(result).map(drop)
        })
    })??
}

/// Who called sudo: user and group.
pub(super) fn caller() -> Option<(u32, u32)> {
    let id = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if nix::unistd::Uid::effective().is_root() { id("SUDO_UID").zip(id("SUDO_GID")) } else { None }
}

/// Whether a user is the caller: who runs this program, or who called sudo.
pub(super) fn is_caller(user: u32) -> bool {
    user == nix::unistd::Uid::effective().as_raw() || caller().is_some_and(|(caller, _)| caller == user)
}

/// Whether a user may be trusted with names: the caller, or root.
pub(super) fn is_trusted(user: u32) -> bool {
    user == 0 || is_caller(user)
}

/// A new file or folder belongs to who called sudo.
fn give_to_caller(file: impl AsFd) -> io::Result<()> {
    caller().map_or(Ok(()), |(user, group)| fchown(file, Some(user), Some(group)))
}

/// The very file of a descriptor to read, with a place of its own in it, whatever has its name by now.
///
/// # Errors
/// What the file system says.
pub fn reopened(file: &File) -> io::Result<File> {
    File::open(again(file))
}

/// A path of the very file of a descriptor.
fn again(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, what.to_owned())
}

/// What a descriptor is of, one of [`LOOK`] among them.
pub(super) fn metadata(fd: BorrowedFd<'_>) -> io::Result<Metadata> {
    File::from(fd.try_clone_to_owned()?).metadata()
}

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Its owner only, since it says what a program does.
    Owner,
    /// Whom the file mode creation mask lets.
    Everybody,
}

impl Readers {
    const fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everybody => 0o666,
        }
    }
}

/// A folder that is open.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    is_shared: bool,
}

/// What the last steps of a way lead to.
enum Step {
    /// Something else than a link.
    There(OwnedFd),
    /// A link that says another way.
    Link(PathBuf),
    /// A link of the kernel itself, as those of `/proc/self/fd`.
    Magic,
}

impl Folder {
    /// Opens a folder that is there.
    ///
    /// # Errors
    /// What the file system says; `PermissionDenied` where a step is a link that another user planted.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::walk(path, false)
    }

    /// Opens a folder; it and those above it are made where they are not there, and belong to the caller.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::walk(path, true)
    }

    fn walk(path: &Path, makes: bool) -> io::Result<Self> {
        let mut left: VecDeque<OsString> = VecDeque::new();
        let mut folder = Self::begin(path, &mut left)?;
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            let step = match folder.step(&name) {
                Err(error) if makes && error.kind() == io::ErrorKind::NotFound => folder.make(&name)?,
                other => other?,
            };
            folder = match step {
                Step::There(fd) => Self::of(fd)?,
                Step::Magic => Self::of(folder.follow(&name)?)?,
                Step::Link(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    if target.is_absolute() {
                        Self::begin(&target, &mut left)?
                    } else {
                        Self::enqueue(&target, &mut left, folder)
                    }
                }
            };
        }
        Ok(folder)
    }

    /// Where a way begins; its steps are put before those that are left.
    fn begin(path: &Path, left: &mut VecDeque<OsString>) -> io::Result<Self> {
        let start = if path.is_absolute() { "/" } else { "." };
        let fd = nix::fcntl::open(start, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self::enqueue(path, left, Self::of(fd)?))
    }

    fn enqueue(path: &Path, left: &mut VecDeque<OsString>, from: Self) -> Self {
        for component in path.components().rev() {
            if let Component::Normal(_) | Component::ParentDir = component {
                left.push_front(component.as_os_str().to_owned());
            }
        }
        from
    }

    fn of(fd: OwnedFd) -> io::Result<Self> {
        let data = metadata(fd.as_fd())?;
        if !data.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        // A group of the same number may have other members, and with a list of access the bits of the group are those of all
        // who are named there.
        let is_shared = !is_trusted(data.uid()) || data.mode() & 0o022 != 0;
        Ok(Self { fd, is_shared })
    }

    fn look(&self, name: &OsStr, flags: OFlag) -> io::Result<OwnedFd> {
        Ok(nix::fcntl::openat(&self.fd, name, flags, Mode::empty())?)
    }

    fn step(&self, name: &OsStr) -> io::Result<Step> {
        let fd = self.look(name, LOOK)?;
        let data = metadata(fd.as_fd())?;
        if !data.is_symlink() {
            return Ok(Step::There(fd));
        }
        if self.is_shared && !is_trusted(data.uid()) {
            return Err(refused("a link on the way was made by another user, in a folder that others can write to"));
        }
        Ok(Self::target_of_link(&fd)?.map_or(Step::Magic, Step::Link))
    }

    /// Where a link leads that was looked at, whatever has its name by now; `None` for one of the kernel's own.
    pub(super) fn target_of_link(link: &OwnedFd) -> io::Result<Option<PathBuf>> {
        if statfs::fstatfs(link).is_ok_and(|system| system.filesystem_type() == statfs::PROC_SUPER_MAGIC) {
            return Ok(None);
        }
        Ok(Some(nix::fcntl::readlinkat(link, "")?.into()))
    }

    /// What a name leads to, as the kernel follows it.
    pub(super) fn follow(&self, name: &OsStr) -> io::Result<OwnedFd> {
        self.look(name, OFlag::O_PATH | OFlag::O_CLOEXEC)
    }

    fn make(&self, name: &OsStr) -> io::Result<Step> {
        match nix::sys::stat::mkdirat(&self.fd, name, Mode::from_bits_truncate(0o777)) {
            // Somebody else was faster.
            Err(Errno::EEXIST) => self.step(name),
            Err(errno) => Err(errno.into()),
            Ok(()) => {
                let fd = self.look(name, LOOK | OFlag::O_DIRECTORY)?;
                let made = nix::fcntl::openat(&fd, ".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
                if metadata(made.as_fd())?.uid() == nix::unistd::Uid::effective().as_raw() {
                    give_to_caller(&made)?;
                }
                Ok(Step::There(fd))
            }
        }
    }

    /// A path of a name in this very folder, whatever the way to it leads to by now.
    pub(super) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        Path::new("/proc/self/fd").join(self.fd.as_raw_fd().to_string()).join(name)
    }

    /// What has a name, without following or opening it.
    pub(super) fn find(&self, name: &OsStr) -> io::Result<Option<OwnedFd>> {
        match self.look(name, LOOK) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses what another user may have planted under the name of an output.
    pub(super) fn refuse_planted(&self, there: &Metadata) -> io::Result<()> {
        let is_shared = self.is_shared;
        if there.is_symlink() && is_shared {
            Err(refused("it is a link in a folder that others can write to"))
        } else if !there.is_symlink() && !there.is_file() && !is_trusted(there.uid()) {
            Err(refused("it is a pipe or a device of another user"))
        } else if is_shared && !there.is_symlink() && !is_caller(there.uid()) {
            Err(refused("another user made it, in a folder that others can write to"))
        } else {
            Ok(())
        }
    }

    /// Begins a file that gets its name when it is complete; gone when it is dropped.
    ///
    /// # Errors
    /// What the file system says.
    pub fn begin_file(self, name: &OsStr, readers: Readers) -> io::Result<Unfinished> {
        let file = self.temporary(".gpuos-trace-", "", readers)?;
        Ok(Unfinished { file, folder: self, name: name.to_owned() })
    }

    /// A file of a name that nobody has; gone when it is dropped, while this folder is open.
    fn temporary(&self, prefix: &str, suffix: &str, readers: Readers) -> io::Result<tempfile::NamedTempFile> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut refusal = None;
        let made = tempfile::Builder::new().prefix(prefix).suffix(suffix).make_in(self.at(""), |path| {
            let name = path.file_name().unwrap_or_default();
            let file = nix::fcntl::openat(&self.fd, name, flags, Mode::from_bits_truncate(readers.mode()));
            file.map(File::from).map_err(|errno| {
                refusal = Some(errno);
                errno.into()
            })
        });
        // The kernel's word alone: the error has a path that nobody asked for.
        made.map_err(|error| refusal.map_or(error, io::Error::from))
    }

    /// Whether a file can be made here: one without a name, gone at once.
    pub(super) fn try_file(&self) -> io::Result<()> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match nix::fcntl::openat(&self.fd, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            // Not every file system has such files.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR) => self.temporary(".gpuos-trace-", "", Readers::Owner).map(drop),
            Err(errno) => Err(errno.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Makes a file that was not there, readable by its owner alone, for who called sudo.
    ///
    /// # Errors
    /// `AlreadyExists`, and what the file system says.
    pub(super) fn create_new(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(nix::fcntl::openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        give_to_caller(&file)?;
        Ok(file)
    }

    /// Keeps a file under a name that nobody has, and says which.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn keep(&self, prefix: &str, suffix: &str, content: &[u8]) -> io::Result<OsString> {
        let mut file = self.temporary(prefix, suffix, Readers::Owner)?;
        file.write_all(content)?;
        give_to_caller(file.as_file())?;
        let (_, path) = file.keep().map_err(|error| error.error)?;
        Ok(path.file_name().unwrap_or_default().to_owned())
    }
}

/// A file while it is written, in the folder in which it gets its name.
#[derive(Debug)]
pub struct Unfinished {
    // Before the folder, through which its path leads.
    file: tempfile::NamedTempFile,
    folder: Folder,
    name: OsString,
}

impl Unfinished {
    /// The file.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// The file again, with a place of its own in it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn reopen(&self) -> io::Result<File> {
        File::options().read(true).write(true).open(again(self.as_file()))
    }

    /// Gives it its name. It belongs to who called sudo; where it takes the place of a file of the caller, it keeps that
    /// one's owner and mode. Nobody else's file decides who may read it.
    ///
    /// # Errors
    /// What the file system says; `PermissionDenied` where another user planted something under the name meanwhile.
    pub fn persist(self) -> io::Result<()> {
        // What is named last goes first: the path of the file leads through the folder.
        let Self { folder, name, file } = self;
        // Looked at, never opened: meanwhile a pipe may have been made there, which waits, or a link, which leads elsewhere.
        let old = folder.find(&name)?.map(|fd| metadata(fd.as_fd())).transpose()?;
        if old.as_ref().is_some_and(|old| folder.is_shared && !(old.is_file() && is_caller(old.uid()))) {
            return Err(refused("what has its name, in a folder that others can write to, is no file of the caller"));
        }
        give_to_caller(file.as_file())?;
        let was_there = old.is_some();
        if let Some(old) = old.filter(|old| old.is_file() && is_caller(old.uid())) {
            fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
            file.as_file().set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))?;
        }
        let unfinished = file.into_temp_path();
        let from = unfinished.file_name().unwrap_or_default();
        let rename = || nix::fcntl::renameat(&folder.fd, from, &folder.fd, name.as_os_str());
        let renamed = if was_there || !folder.is_shared {
            rename()
        } else {
            match rename_to_new(folder.fd.as_fd(), from, &name) {
                // Not every file system can refuse.
                Err(Errno::EINVAL | Errno::ENOSYS) => rename(),
                other => other,
            }
        };
        renamed?;
        // It has another name by now.
        unfinished.keep().map_err(|error| error.error).map(drop)
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Folder and last name of a path.
pub(super) fn parts(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/"));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    name.map(|name| (folder, name)).ok_or_else(|| io::ErrorKind::IsADirectory.into())
}

/// Removes a file that was made here, of which the folder is looked up again.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let (folder, name) = parts(path)?;
    let folder = Folder::open(folder)?;
    Ok(nix::unistd::unlinkat(&folder.fd, name, nix::unistd::UnlinkatFlags::NoRemoveDir)?)
}
