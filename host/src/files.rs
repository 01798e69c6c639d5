//! Files that are written: opened before the work that fills them, named when they are complete, and never where another
//! user may have planted a name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, fchown},
    },
    path::{Path, PathBuf},
};

use nix::{errno::Errno, fcntl::OFlag, sys::stat::Mode};

use crate::screen;

/// Where an output goes. A regular file is written beside its name and takes it only when it is complete, so that a
/// failed run leaves an older file as it was.
#[derive(Debug)]
pub enum OutputTarget {
    /// Standard output.
    Stdout,
    /// A pipe, a terminal, a device.
    Stream(File),
    /// A file that is there: opened for writing without following rules of our own, so that the
    /// kernel's protection of links in shared folders holds.
    Existing {
        /// The file.
        file: File,
        /// Its real path.
        path: PathBuf,
    },
    /// A name that is not there yet, in a folder in which files can be made.
    New {
        /// The name.
        path: PathBuf,
    },
}

/// Device and inode.
fn identity(data: &fs::Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}

/// Whether this is the file behind standard output: replacing it would lose what the command wrote.
fn is_standard_output(data: &fs::Metadata) -> bool {
    fs::metadata("/proc/self/fd/1").is_ok_and(|stdout| identity(&stdout) == identity(data))
}

/// Where a file's name cannot be given to another one, whether to write into it: it is a mount point, which only root
/// makes, or it is our own in a folder in which we may make none. Nobody else's file gets what was counted.
fn is_ours_to_write_into(error: &io::Error, file: &File) -> bool {
    let is_ours = || file.metadata().is_ok_and(|data| data.uid() == nix::unistd::Uid::effective().as_raw());
    match error.raw_os_error() {
        Some(libc::EBUSY) => true,
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => is_ours(),
        _ => false,
    }
}

/// Refuses what another user may have planted: a link in a folder that everybody writes to, as the kernel does where
/// `protected_symlinks` is set, and a pipe. The last part of the path is looked at.
fn refuse_planted(path: &Path) -> io::Result<()> {
    let planted = |what: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, what.to_owned()));
    let us = nix::unistd::Uid::effective().as_raw();
    let is_known = |owner: u32| owner == us || owner == 0 || caller().is_some_and(|(user, _)| user == owner);
    let folder = fs::metadata(folder_of(path));
    if let (Ok(link), Ok(folder)) = (fs::symlink_metadata(path), folder)
        && link.is_symlink()
        && folder.mode() & 0o1002 == 0o1002
        && !is_known(link.uid())
        && link.uid() != folder.uid()
    {
        return planted("it is a link that another user made in a folder that everybody writes to");
    }
    if let Ok(data) = fs::metadata(path)
        && data.file_type().is_fifo()
        && !is_known(data.uid())
    {
        return planted("it is a pipe of another user");
    }
    Ok(())
}

impl OutputTarget {
    /// Opens an output, and tries whether it can be written.
    ///
    /// # Errors
    /// What the file system says; `PermissionDenied` for what another user may have planted.
    pub fn open(path: &Path) -> io::Result<Self> {
        refuse_planted(path)?;
        match OpenOptions::new().write(true).open(path) {
            Ok(file) => {
                let data = file.metadata()?;
                if is_standard_output(&data) {
                    Ok(Self::Stdout)
                } else if data.is_file() {
                    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
                    Ok(Self::Existing { file, path })
                } else {
                    Ok(Self::Stream(file))
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(path).is_ok() {
                    return Err(io::Error::new(error.kind(), "it is a link to a file that does not exist"));
                }
                try_folder(folder_of(path))?;
                Ok(Self::New { path: path.to_path_buf() })
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the whole content and gives a file its name.
    ///
    /// # Errors
    /// What the file system says. A reader of standard output that has seen enough is no error.
    pub fn write(self, content: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = screen::standard_output();
                match stdout.write_all(content).and_then(|()| stdout.flush()) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                    other => other,
                }
            }
            Self::Stream(mut file) => file.write_all(content),
            Self::New { path } => replace(&path, content, None),
            Self::Existing { mut file, path } => match replace(&path, content, Some(&file)) {
                Err(error) if is_ours_to_write_into(&error, &file) => {
                    file.set_len(0).and_then(|()| file.write_all(content))
                }
                other => other,
            },
        }
    }
}

/// What to do about a file that cannot be written.
#[must_use]
#[expect(clippy::wildcard_enum_match_arm, reason = "of all kinds of errors few have a hint of their own")]
pub fn hint_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "the directory must exist (`mkdir -p` makes one) and be able to hold files",
        io::ErrorKind::PermissionDenied => "choose a directory that you may write to",
        io::ErrorKind::StorageFull => "the disk is full; choose another directory",
        io::ErrorKind::IsADirectory => "that is a directory; name a file in it",
        _ => "choose another file",
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a file can be made in a folder: one without a name, gone at once.
fn try_folder(folder: &Path) -> io::Result<()> {
    match nix::fcntl::open(folder, OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::S_IRUSR | Mode::S_IWUSR)
    {
        // Not every file system has such files.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR) => tempfile::tempfile_in(folder).map(drop),
        Err(errno) => Err(errno.into()),
        Ok(_) => Ok(()),
    }
}

/// Writes a file of its own, readable by its owner only, and gives it the name at once.
///
/// Under sudo it belongs to who called sudo. Where it takes the place of a file of ours, or of who
/// called sudo, it keeps that file's owner and mode; nobody else's file decides who may read it.
fn replace(path: &Path, content: &[u8], old: Option<&File>) -> io::Result<()> {
    let mut unfinished = beside(path)?;
    unfinished.write_all(content)?;
    give_name(unfinished, path, old.map(File::metadata).transpose()?)
}

/// Where a file that takes its name when it is complete will be: an existing regular file by its real path, or a new
/// name in a folder in which files can be made.
///
/// # Errors
/// What the file system says; `InvalidInput` for a device or a pipe.
pub fn target_of(path: &Path) -> io::Result<PathBuf> {
    let other = || io::Error::new(io::ErrorKind::InvalidInput, "it is a device or a pipe, not a file");
    // Opening a pipe would wait for who reads it.
    if fs::metadata(path).is_ok_and(|data| !data.is_file() && !data.is_dir()) {
        return Err(other());
    }
    match OutputTarget::open(path)? {
        OutputTarget::Existing { path, .. } | OutputTarget::New { path } => Ok(path),
        OutputTarget::Stdout | OutputTarget::Stream(_) => Err(other()),
    }
}

/// A file in the folder of another one, with a name that nobody else has; gone when it is dropped.
///
/// # Errors
/// What the file system says.
pub fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".gpuos-trace-").tempfile_in(folder_of(path))
}

/// Gives such a file its name, with the owner and the mode that [`OutputTarget::write`] would give it.
///
/// # Errors
/// What the file system says.
pub fn persist(unfinished: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    // Looked at, never opened: meanwhile a pipe may have been made there, which waits, or a link, which leads elsewhere.
    let old = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    give_name(unfinished, path, old)
}

/// Who called sudo: user and group.
fn caller() -> Option<(u32, u32)> {
    let id = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if nix::unistd::Uid::effective().is_root() { id("SUDO_UID").zip(id("SUDO_GID")) } else { None }
}

/// Whether two names, of which the file may not be there yet, are of one file.
#[must_use]
pub fn is_same_file(first: &Path, second: &Path) -> bool {
    if let (Ok(first), Ok(second)) = (fs::metadata(first), fs::metadata(second)) {
        return (first.dev(), first.ino()) == (second.dev(), second.ino());
    }
    let real =
        |path: &Path| Ok::<_, io::Error>(folder_of(path).canonicalize()?.join(path.file_name().unwrap_or_default()));
    matches!((real(first), real(second)), (Ok(first), Ok(second)) if first == second)
}

/// A new file belongs to who called sudo.
///
/// # Errors
/// What the file system says.
pub fn give_to_caller(file: &File) -> io::Result<()> {
    caller().map_or(Ok(()), |(user, group)| fchown(file, Some(user), Some(group)))
}

/// `old`: the file that has the name so far.
fn give_name(unfinished: tempfile::NamedTempFile, path: &Path, old: Option<fs::Metadata>) -> io::Result<()> {
    let us = nix::unistd::Uid::effective();
    let caller = caller();
    let file = unfinished.as_file();
    give_to_caller(file)?;
    if let Some(old) = old.filter(|old| old.uid() == us.as_raw() || caller.is_some_and(|(user, _)| old.uid() == user)) {
        fchown(file, Some(old.uid()), Some(old.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))?;
    }
    unfinished.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persisted(path: &Path) {
        let mut unfinished = beside(path).unwrap();
        unfinished.write_all(b"counts").unwrap();
        persist(unfinished, path).unwrap();
        let data = fs::symlink_metadata(path).unwrap();
        assert!(data.is_file());
        assert_eq!(fs::read(path).unwrap(), b"counts");
    }

    #[test]
    fn a_pipe_that_was_made_meanwhile_does_not_hold_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording.parquet");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        persisted(&path);
    }

    #[test]
    fn a_link_that_was_made_meanwhile_says_nothing_of_who_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("recording.parquet"), folder.path().join("other"));
        fs::write(&other, b"of somebody").unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        persisted(&path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&other).unwrap(), b"of somebody");
    }

    #[test]
    fn a_file_of_ours_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording.parquet");
        fs::write(&path, b"older").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        persisted(&path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    }
}
