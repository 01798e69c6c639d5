//! Where an output goes: a file, a pipe, a device, standard output; and where it is kept when it cannot go there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use super::{
    begin,
    folder::{self, Folder, parts},
};
use crate::screen;

/// Where an output goes. A regular file is written beside its name and takes it only when it is complete, so that a
/// failed run leaves an older file as it was.
#[derive(Debug)]
pub enum OutputTarget {
    /// Standard output.
    Stdout,
    /// A pipe, a terminal, a device.
    Stream(File),
    /// A file that is there.
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

/// Whether this is the file behind standard output: replacing it would lose what the command wrote.
fn is_standard_output(data: &fs::Metadata) -> bool {
    fs::metadata("/proc/self/fd/1").is_ok_and(|stdout| (stdout.dev(), stdout.ino()) == (data.dev(), data.ino()))
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

/// What has a name now: a descriptor of it that is open for nothing, at the end of links that may be followed.
fn find(path: &Path) -> io::Result<Option<OwnedFd>> {
    const MOST_LINKS: usize = 40;
    let mut path = path.to_path_buf();
    for followed in 0..MOST_LINKS {
        let (folder_path, name) = parts(&path)?;
        let folder = Folder::open(folder_path)?;
        let Some(found) = folder.find(name)? else {
            return if followed == 0 {
                folder.try_file().map(|()| None)
            } else {
                Err(io::Error::new(io::ErrorKind::NotFound, "it is a link to a file that does not exist"))
            };
        };
        let there = folder::metadata(found.as_fd())?;
        folder.refuse_planted(&there)?;
        if !there.is_symlink() {
            return Ok(Some(found));
        }
        match Folder::target_of_link(&found)? {
            Some(target) => path = folder_path.join(target),
            // One of the kernel's own, such as what `/dev/stdout` leads to.
            None => return folder.follow(name).map(Some),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

impl OutputTarget {
    /// Opens an output, and tries whether it can be written.
    ///
    /// # Errors
    /// What the file system says; `PermissionDenied` for what another user may have planted.
    pub fn open(path: &Path) -> io::Result<Self> {
        let Some(found) = find(path)? else { return Ok(Self::New { path: path.to_path_buf() }) };
        // A socket cannot be opened again.
        if folder::metadata(found.as_fd()).is_ok_and(|data| is_standard_output(&data)) {
            return Ok(Self::Stdout);
        }
        let link = format!("/proc/self/fd/{}", found.as_raw_fd());
        let file = OpenOptions::new().write(true).open(&link)?;
        let data = file.metadata()?;
        if data.is_file() { Ok(Self::Existing { file, path: fs::read_link(link)? }) } else { Ok(Self::Stream(file)) }
    }

    /// Writes the whole content and gives a file its name.
    ///
    /// # Errors
    /// What the file system says. A reader of standard output that has seen enough is no error.
    pub fn write(&mut self, content: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = screen::standard_output();
                match stdout.write_all(content).and_then(|()| stdout.flush()) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                    other => other,
                }
            }
            Self::Stream(file) => file.write_all(content),
            Self::New { path } => replace(path, content),
            Self::Existing { file, path } => match replace(path, content) {
                Err(error) if is_ours_to_write_into(&error, file) => {
                    file.set_len(0).and_then(|()| file.write_all(content))
                }
                other => other,
            },
        }
    }
}

/// Writes a file of its own, readable by its owner only, and gives it the name at once.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut unfinished = begin(path)?;
    unfinished.write_all(content)?;
    unfinished.persist()
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

/// Keeps what cannot be written where it belongs, under a name that nobody has: in the working folder, or else in one of those
/// of temporary files. The path, for the person.
///
/// # Errors
/// What the last of the folders said.
pub fn rescue(content: &[u8], ending: &str) -> io::Result<PathBuf> {
    let keep = |folder: PathBuf| {
        let name = Folder::open(&folder)?.keep("gpuos-trace-rescue-", ending, content)?;
        Ok(folder.join(name))
    };
    let others = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    others.into_iter().fold(std::env::current_dir().and_then(keep), |kept, folder| kept.or_else(|_| keep(folder)))
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
