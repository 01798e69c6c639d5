//! Where a run goes: one trait, one file per format, and outputs that are opened before the run.

mod api_table;
mod csv;
mod device_table;
mod json;
pub mod palette;
mod parquet;
mod phase_table;
pub mod table;
pub mod units;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, fchown},
    },
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Mutex,
};

use nix::{errno::Errno, fcntl::OFlag, sys::stat::Mode};

use crate::model::{
    frame,
    run::{Header, Run, SCHEMA_VERSION},
};

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// One JSON document.
    Json,
    /// Comma-separated values behind comment lines.
    Csv,
    /// Tables as text.
    Table,
}

/// Writes a run in one format and reads it back.
trait Codec {
    fn write(&self, run: &Run, to: &mut dyn Write) -> Result<(), CodecError>;
    fn read(&self, bytes: Vec<u8>) -> Result<Run, CodecError>;
}

/// What a format's library or its reader says.
type CodecError = Box<dyn std::error::Error + Send + Sync>;

impl Format {
    /// What the ending of a name says; `None` when it says nothing.
    #[must_use]
    pub fn by_ending(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "parquet" => Some(Self::Parquet),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "txt" => Some(Self::Table),
            _ => None,
        }
    }

    fn codec(self) -> &'static dyn Codec {
        match self {
            Self::Parquet => &parquet::Parquet,
            Self::Json => &json::Json,
            Self::Csv => &csv::Csv,
            Self::Table => &table::Text,
        }
    }
}

/// Why an output cannot be written or an input not be read.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The ending says nothing.
    #[error(
        "cannot tell the format of `{0}` from its ending\nhint: end it in .parquet, .json, .csv or .txt, or give `--format`"
    )]
    UnknownEnding(String),
    /// The output cannot be created.
    #[error("cannot write `{path}`: {source}\nhint: {hint}", hint = write_hint(.source))]
    NotWritable {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Writing failed in the end.
    #[error(
        "cannot write `{path}`: {reason}\nhint: the counts of this run are lost but for the tables; write to another place (`-o FILE`) next time"
    )]
    WriteFailed {
        /// Where.
        path: String,
        /// Why.
        reason: String,
    },
    /// The input cannot be opened.
    #[error("cannot read `{path}`: {source}\nhint: name a file that `gpuos-trace run -o` or `record -o` wrote")]
    NotReadable {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The input is not a run.
    #[error(
        "`{path}` is not a file that gpuos-trace wrote, or it is damaged: {reason}\nhint: `gpuos-trace run -o FILE` writes .parquet, .json and .csv files that `show` reads"
    )]
    NotARun {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// The input is from a newer gpuos-trace.
    #[error(
        "`{path}` has schema version {found}, this gpuos-trace reads up to {SCHEMA_VERSION}\nhint: read it with the version that wrote it, {writer}, or a newer one"
    )]
    NewerSchema {
        /// Which.
        path: String,
        /// Its version.
        found: u32,
        /// Who wrote it.
        writer: String,
    },
}

fn write_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "the directory must exist (`mkdir -p` makes one) and be able to hold files",
        io::ErrorKind::PermissionDenied => "choose a directory that you may write to",
        io::ErrorKind::StorageFull => "the disk is full; choose another directory",
        io::ErrorKind::IsADirectory => "that is a directory; name a file in it",
        _ => "choose another file",
    }
}

/// An output that could be opened. A regular file is written beside its name and takes it only
/// when it is complete, so that a failed run leaves an older file as it was.
#[derive(Debug)]
pub struct Destination {
    format: Format,
    shown: String,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Stdout,
    /// A pipe, a terminal, a device.
    Stream(File),
    /// A file that is there: opened for writing without following rules of our own, so that the
    /// kernel's protection of links in shared folders holds.
    Existing {
        file: File,
        path: PathBuf,
    },
    New {
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

impl Target {
    fn open(path: &Path) -> io::Result<Self> {
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
}

impl Destination {
    /// Opens an output, by its ending where no format is given. `-` is standard output.
    ///
    /// # Errors
    /// When the format is not clear or the file cannot be written.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Self, SinkError> {
        let shown = path.display().to_string();
        let not_writable = |source| SinkError::NotWritable { path: shown.clone(), source };
        if path == Path::new("-") {
            return Ok(Self {
                format: format.unwrap_or(Format::Json),
                shown: "standard output".into(),
                target: Target::Stdout,
            });
        }
        if path.is_dir() {
            return Err(not_writable(io::ErrorKind::IsADirectory.into()));
        }
        let format =
            format.or_else(|| Format::by_ending(path)).ok_or_else(|| SinkError::UnknownEnding(shown.clone()))?;
        let target = Target::open(path).map_err(not_writable)?;
        Ok(Self { format, shown, target })
    }

    /// Where this is, as the user named it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shown
    }

    /// Writes a run and gives the file its name.
    ///
    /// # Errors
    /// [`SinkError::WriteFailed`].
    pub fn write(self, run: &Run) -> Result<(), SinkError> {
        let codec = self.format.codec();
        let shown = self.shown;
        let failed = |error: CodecError| SinkError::WriteFailed { path: shown.clone(), reason: error.to_string() };
        let mut buffer = Vec::new();
        codec.write(run, &mut buffer).map_err(&failed)?;
        match self.target {
            Target::Stdout => {
                let mut stdout = for_people(io::stdout().lock());
                match stdout.write_all(&buffer).and_then(|()| stdout.flush()) {
                    // Who reads it has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                    other => other,
                }
            }
            Target::Stream(mut file) => file.write_all(&buffer),
            Target::New { path } => replace(&path, &buffer, None),
            Target::Existing { mut file, path } => match replace(&path, &buffer, Some(&file)) {
                Err(error) if is_ours_to_write_into(&error, &file) => {
                    file.set_len(0).and_then(|()| file.write_all(&buffer))
                }
                other => other,
            },
        }
        .map_err(|error| failed(error.into()))
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
    give_name(unfinished, path, old)
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
    match Target::open(path)? {
        Target::Existing { path, .. } | Target::New { path } => Ok(path),
        Target::Stdout | Target::Stream(_) => Err(other()),
    }
}

/// A file in the folder of another one, with a name that nobody else has; gone when it is dropped.
///
/// # Errors
/// What the file system says.
pub fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".gpuos-trace-").tempfile_in(folder_of(path))
}

/// Gives such a file its name, with the owner and the mode that [`Destination::write`] would give it.
///
/// # Errors
/// What the file system says.
pub fn persist(unfinished: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    let old = OpenOptions::new().write(true).open(path).ok();
    give_name(unfinished, path, old.as_ref())
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
pub(crate) fn give_to_caller(file: &File) -> io::Result<()> {
    caller().map_or(Ok(()), |(user, group)| fchown(file, Some(user), Some(group)))
}

fn give_name(unfinished: tempfile::NamedTempFile, path: &Path, old: Option<&File>) -> io::Result<()> {
    let us = nix::unistd::Uid::effective();
    let caller = caller();
    let file = unfinished.as_file();
    give_to_caller(file)?;
    let old = old.map(File::metadata).transpose()?;
    if let Some(old) = old.filter(|old| old.uid() == us.as_raw() || caller.is_some_and(|(user, _)| old.uid() == user)) {
        fchown(file, Some(old.uid()), Some(old.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))?;
    }
    unfinished.persist(path).map(drop).map_err(|error| error.error)
}

/// Reads a run back from a file in any format but text.
///
/// # Errors
/// When the file is unreadable, foreign, damaged or too new.
pub fn read(path: &Path) -> Result<Run, SinkError> {
    let shown = path.display().to_string();
    let mut bytes = Vec::new();
    let open = || {
        let file = File::open(path)?;
        // It never ends.
        if file.metadata()?.file_type().is_char_device() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a device"));
        }
        Ok(file)
    };
    match open().and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => from_bytes(bytes, &shown),
        Err(source) => Err(SinkError::NotReadable { path: shown, source }),
    }
}

/// Reads a run back from the bytes of a file that the user knows as `shown`.
///
/// # Errors
/// When they are foreign, damaged or too new.
pub fn from_bytes(bytes: Vec<u8>, shown: &str) -> Result<Run, SinkError> {
    // The reason may quote the file, which anybody may have written.
    let not_a_run = |reason: String| SinkError::NotARun { path: shown.to_owned(), reason: units::printable(&reason) };
    let format = match bytes.get(..4) {
        Some(b"PAR1") => Format::Parquet,
        Some(start) if start.starts_with(b"{") => Format::Json,
        Some(start) if start.starts_with(b"#") => Format::Csv,
        _ if bytes.starts_with(b"{") => Format::Json,
        _ => return Err(not_a_run("its first bytes are those of none of the formats".into())),
    };
    let mut run = match format.codec().read(bytes) {
        Ok(run) => run,
        Err(error) => match error.downcast::<Newer>() {
            Ok(newer) => {
                return Err(SinkError::NewerSchema {
                    path: shown.to_owned(),
                    found: newer.version,
                    writer: units::printable(&newer.writer),
                });
            }
            Err(error) => return Err(not_a_run(error.to_string())),
        },
    };
    frame::complete(&mut run.calls, run.header.schema_version).map_err(|error| not_a_run(error.to_string()))?;
    frame::check(&run.calls).map_err(|error| not_a_run(error.to_string()))?;
    Ok(run)
}

/// Calls `work`; `None` when it panicked, which nobody gets to see.
pub(crate) fn without_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    // The hook is the process's: one caller at a time.
    static HOOK: Mutex<()> = Mutex::new(());
    let _one = HOOK.lock();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    done.ok()
}

/// Standard output: on a terminal without what the terminal would obey, which a traced program may have put into
/// names; elsewhere as it is.
pub fn for_people(stdout: io::StdoutLock<'static>) -> Box<dyn Write> {
    if io::IsTerminal::is_terminal(&stdout) {
        Box::new(Screen { to: stdout, may_be_control: false })
    } else {
        Box::new(stdout)
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

/// A file of a newer gpuos-trace.
#[derive(Debug, thiserror::Error)]
#[error("schema version {version}")]
struct Newer {
    version: u32,
    writer: String,
}

/// Reads a header. A newer one is refused before the rest of it is read by rules that may have changed.
fn header_from(value: serde_json::Value) -> Result<Header, CodecError> {
    let version =
        value.get("schema_version").and_then(serde_json::Value::as_u64).ok_or("its header has no schema version")?;
    if version > u64::from(SCHEMA_VERSION) {
        let writer = value.get("tool_version").and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned();
        return Err(Newer { version: u32::try_from(version).unwrap_or(u32::MAX), writer }.into());
    }
    serde_json::from_value(value).map_err(|error| format!("its header is not valid: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{roles::Roles, run::Process};
    use crate::names::devices::Devices;
    use gpuos_tracer_abi::syscalls::{RowCounts, RowKey};
    use proptest::prelude::*;

    fn run_of(rows: Vec<(RowKey, RowCounts)>, command: &str) -> Run {
        let process = Process { id: 1, pid: 2, command: command.to_owned(), ..Default::default() };
        let calls = frame::build(
            &rows.into_iter().collect(),
            std::slice::from_ref(&process),
            &[],
            &Roles::default(),
            &Devices::default(),
        )
        .unwrap();
        let header = Header { command: vec![command.to_owned()], processes: vec![process], ..Header::default() };
        Run { header, calls }
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

    #[test]
    fn a_damaged_file_that_polars_panics_on_is_refused() {
        // Found by fuzzing: a quote that nothing follows, where a number should be.
        let bytes = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/run_file/damaged.csv")).unwrap();
        assert!(Format::Csv.codec().read(bytes).is_err());
    }

    proptest! {
        #[test]
        fn every_format_gives_back_what_was_written(
            rows in prop::collection::hash_map((0_u64..3, 0_u32..3, 0_u32..600), (any::<u64>(), any::<u64>(), prop::collection::vec(any::<u64>(), 40)), 0..20),
            command in "\\PC{0,12}|[\\x00-\\x7f]{0,12}",
        ) {
            let rows = rows.into_iter().map(|((process, thread, number), (calls, total_ns, buckets))| {
                let mut counts = RowCounts { calls, total_ns, ..RowCounts::ZERO };
                counts.buckets.copy_from_slice(&buckets);
                (RowKey { process, thread, number, ..Default::default() }, counts)
            });
            let run = run_of(rows.collect(), &command);
            for format in [Format::Parquet, Format::Json, Format::Csv] {
                let mut bytes = Vec::new();
                format.codec().write(&run, &mut bytes).unwrap();
                let again = format.codec().read(bytes).unwrap();
                prop_assert_eq!(&again.header, &run.header, "{:?}", format);
                prop_assert!(again.calls.equals(&run.calls), "{:?}\n{:?}\n{:?}", format, again.calls.shape(), run.calls.shape());
            }
        }

        #[test]
        fn readers_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), damaged: bool, at in any::<prop::sample::Index>(), value: u8, kind in 0_usize..3) {
            let codec = [Format::Parquet, Format::Json, Format::Csv][kind].codec();
            // polars asks for as much memory as a damaged Parquet file says, which ends the program (docs/limitations.md).
            if damaged && kind != 0 {
                bytes.clear();
                codec.write(&run_of(vec![(RowKey::default(), RowCounts::ZERO)], "true"), &mut bytes).unwrap();
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            // A panic fails the test.
            let _ = codec.read(bytes);
        }
    }
}
