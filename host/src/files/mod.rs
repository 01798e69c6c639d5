//! Files that are written, all of them in one way: opened before the work that fills them, named when they are complete,
//! owned by who called sudo, and never where another user may have planted a name. No other code of the project opens a
//! file for writing; `clippy.toml` forbids it.
#![expect(clippy::disallowed_methods, reason = "this is how it is done")]

mod folder;
mod output;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use folder::parts;
pub use folder::{Folder, Readers, Unfinished, reopened};
pub use output::{OutputTarget, hint_of, rescue, target_of};

/// Begins a file that only its owner can read, and that gets its name when it is complete.
///
/// # Errors
/// What the file system says; `PermissionDenied` where the way to it was planted by another user.
pub fn begin(path: &Path) -> io::Result<Unfinished> {
    let (folder, name) = parts(path)?;
    Folder::open(folder)?.begin_file(name, Readers::Owner)
}

/// Makes a file that was not there, readable by its owner alone.
///
/// # Errors
/// `AlreadyExists`, and as [`begin`].
pub fn create_new(path: &Path) -> io::Result<File> {
    let (folder, name) = parts(path)?;
    Folder::open(folder)?.create_new(name)
}

/// Writes a file as a whole or not at all, for whoever may read its folder; folders are made.
///
/// # Errors
/// As [`begin`].
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let (folder, name) = parts(path)?;
    let mut file = Folder::create(folder)?.begin_file(name, Readers::Everybody)?;
    io::Write::write_all(&mut file, content)?;
    file.persist()
}

/// Removes a file that this program made.
///
/// # Errors
/// As [`begin`].
pub fn remove(path: &Path) -> io::Result<()> {
    folder::remove(path)
}

/// Opens a regular file to read: a pipe that somebody put there is not waited for.
///
/// # Errors
/// What the file system says; `InvalidInput` for anything else than a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

/// The text of a regular file.
///
/// # Errors
/// As [`open_regular`].
pub fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_regular(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Whether two names, of which the file may not be there yet, are of one file.
#[must_use]
pub fn is_same_file(first: &Path, second: &Path) -> bool {
    if let (Ok(first), Ok(second)) = (fs::metadata(first), fs::metadata(second)) {
        return (first.dev(), first.ino()) == (second.dev(), second.ino());
    }
    let real = |path: &Path| {
        let (folder, name) = parts(path)?;
        Ok::<PathBuf, io::Error>(folder.canonicalize()?.join(name))
    };
    matches!((real(first), real(second)), (Ok(first), Ok(second)) if first == second)
}

#[cfg(test)]
mod tests;
