//! The journal: recorded events on disk as they came from the kernel, until they are a Parquet file.
//!
//! Nothing is computed on the way, so writing keeps up with any machine, and after a crash what was written is
//! there. A journal is the word `GPUOSJNL`, the length of the head (`u32`), the head as JSON, zeros up to a multiple of
//! eight, and records as in the ring: length (`u32`), a word to ignore, the bytes of the event rounded up to eight.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use bytemuck::NoUninit;
use gpuos_decode::devices::Devices;
use gpuos_host::files;
use gpuos_model::{
    machine::{Clocks, Host},
    units,
};
use gpuos_tracer_abi::{ABI_VERSION, events::EventHeader};
use serde::{Deserialize, Serialize};

use crate::ring::{DISCARDED, HEADER, bytes_of};

const MAGIC: &[u8; 8] = b"GPUOSJNL";
/// No head is longer.
const LONGEST_HEAD: usize = 16 << 20;
/// No record is longer: the largest event has 160 bytes.
const LONGEST_RECORD: u32 = 4096;

/// What must be known to read the records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JournalHeader {
    /// Layout of the records.
    pub abi_version: u32,
    /// Who wrote it.
    pub tool_version: String,
    /// The traced command line, word by word.
    pub command: Vec<String>,
    /// When it was released, RFC 3339 in UTC.
    pub started: String,
    /// Clocks at that moment.
    pub clocks: Clocks,
    /// The machine.
    pub host: Host,
    /// Its drivers.
    pub devices: Devices,
    /// The text of the `--roles` file.
    pub roles: String,
    /// The `-e` words.
    pub filter: Vec<String>,
}

impl Default for JournalHeader {
    /// One of this version, of a machine of this architecture about which nothing is known.
    fn default() -> Self {
        Self {
            abi_version: ABI_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            command: Vec::new(),
            started: String::new(),
            clocks: Clocks::default(),
            host: Host { architecture: std::env::consts::ARCH.to_owned(), ..Host::default() },
            devices: Devices::default(),
            roles: String::new(),
            filter: Vec::new(),
        }
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is one already.
    #[error(
        "`{0}` is there: a recording that was not finished, or that another gpuos-trace writes now\nhint: `gpuos-trace export --to parquet {0} -o FILE` makes a recording of it; or remove it, or record to another file"
    )]
    Exists(String),
    /// The file system says no.
    #[error(
        "cannot write `{path}`: {source}\nhint: name a file in a folder that you may write to, with room for 100 bytes for each event"
    )]
    NotWritable {
        /// The file, as the user named it.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
    /// It is none, or its head is damaged.
    #[error("`{path}` is not a journal of gpuos-trace: {reason}")]
    NotAJournal {
        /// The file, as the user named it.
        path: String,
        /// What is wrong, in the words of whoever found it.
        reason: String,
    },
    /// Its records have another layout.
    #[error(
        "`{path}` has events of version {found}, this gpuos-trace reads {ABI_VERSION}\nhint: read it with the version that wrote it, {writer}"
    )]
    OtherVersion {
        /// The file, as the user named it.
        path: String,
        /// Its version.
        found: u32,
        /// Who wrote it.
        writer: String,
    },
}

/// Where the journal of a recording lies while it is written.
#[must_use]
pub fn path_for(recording: &Path) -> PathBuf {
    let mut name = recording.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Whether a file begins as a journal does.
#[must_use]
pub fn is_journal(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// Makes a journal, readable by its owner only.
///
/// # Errors
/// [`JournalError::Exists`], [`JournalError::NotWritable`].
pub fn create(path: &Path, head: &JournalHeader) -> Result<File, JournalError> {
    let shown = path.display().to_string();
    let mut file = match files::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(JournalError::Exists(shown)),
        other => other.map_err(|source| JournalError::NotWritable { path: shown.clone(), source })?,
    };
    let head = serde_json::to_vec(head).unwrap_or_default();
    let mut bytes = Vec::from(MAGIC);
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(head);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    file.write_all(&bytes).map_err(|source| {
        // It would be taken for somebody's recording.
        let _ = files::remove(path);
        JournalError::NotWritable { path: shown, source }
    })?;
    Ok(file)
}

/// Adds a record that does not come from the ring.
pub fn append<T: NoUninit>(to: &mut Vec<u8>, event: &T) {
    to.extend((size_of::<T>() as u32).to_le_bytes());
    to.extend([0; 4]);
    to.extend(bytemuck::bytes_of(event));
    to.resize(to.len().next_multiple_of(8), 0);
}

/// Reads a journal from its beginning; more may be written meanwhile.
#[derive(Debug)]
pub struct JournalReader {
    file: File,
    /// What the head says.
    pub head: JournalHeader,
    /// Read and not yet given away.
    buffer: Vec<u8>,
}

impl JournalReader {
    /// Opens one.
    ///
    /// # Errors
    /// [`JournalError::NotAJournal`], [`JournalError::OtherVersion`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let shown = path.display().to_string();
        let damaged =
            |reason: String| JournalError::NotAJournal { path: shown.clone(), reason: units::printable(&reason) };
        let file = files::open_regular(path).map_err(|error| damaged(error.to_string()))?;
        Self::of(file, path)
    }

    /// Reads one that is being written, by its descriptor.
    ///
    /// # Errors
    /// As [`JournalReader::open`].
    pub fn follow(written: &File, path: &Path) -> Result<Self, JournalError> {
        let not_writable = |source| JournalError::NotWritable { path: path.display().to_string(), source };
        Self::of(files::reopened(written).map_err(not_writable)?, path)
    }

    fn of(mut file: File, path: &Path) -> Result<Self, JournalError> {
        let shown = path.display().to_string();
        let damaged =
            |reason: String| JournalError::NotAJournal { path: shown.clone(), reason: units::printable(&reason) };
        let head = read_head(&mut file).map_err(|error| damaged(error.to_string()))?;
        if head.abi_version != ABI_VERSION {
            return Err(JournalError::OtherVersion {
                path: shown,
                found: head.abi_version,
                writer: units::printable(&head.tool_version),
            });
        }
        // Numbers of calls are those of an architecture.
        if head.host.architecture != std::env::consts::ARCH {
            return Err(damaged(format!(
                "it was written on {}, and this gpuos-trace knows the calls of {}",
                head.host.architecture,
                std::env::consts::ARCH
            )));
        }
        Ok(Self { file, head, buffer: Vec::new() })
    }

    /// The events that have been written since, up to about a megabyte; an event that is not there completely is left
    /// for the next time. Nothing new: `take` is not called.
    ///
    /// # Errors
    /// What the file system says; `InvalidData` when what follows is no record.
    pub fn next(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        const STEP: u64 = 1 << 20;
        let read = (&mut self.file).take(STEP).read_to_end(&mut self.buffer)?;
        let used = records(&self.buffer, &mut take)?;
        self.buffer.drain(..used);
        Ok(read)
    }
}

fn read_head(file: &mut File) -> io::Result<JournalHeader> {
    let mut start = [0_u8; 12];
    file.read_exact(&mut start)?;
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    if !is_journal(&start) {
        return Err(invalid("its first bytes are not those of a journal"));
    }
    let length = u32::from_le_bytes([start[8], start[9], start[10], start[11]]) as usize;
    if length > LONGEST_HEAD {
        return Err(invalid("its head is too long"));
    }
    let mut text = vec![0; (start.len() + length).next_multiple_of(8) - start.len()];
    file.read_exact(&mut text)?;
    serde_json::from_slice(&text[..length]).map_err(|error| invalid(&format!("its head is not valid: {error}")))
}

/// Gives each complete record to `take`, and says how many bytes they had.
///
/// # Errors
/// `InvalidData` when something else follows.
pub fn records(bytes: &[u8], take: &mut impl FnMut(&[u8])) -> io::Result<usize> {
    let mut at = 0;
    while let Some(word) = bytes.get(at..at + 4) {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        let length = word & !DISCARDED;
        if length > LONGEST_RECORD || (length as usize) < size_of::<EventHeader>() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a record of {length} bytes")));
        }
        let Some(event) = bytes.get(at + HEADER..at + HEADER + length as usize) else { break };
        if bytes.len() < at + bytes_of(length) {
            break;
        }
        if word & DISCARDED == 0 {
            take(event);
        }
        at += bytes_of(length);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuos_tracer_abi::events::{Call, Gap};
    use proptest::prelude::*;

    #[test]
    fn what_is_appended_is_found() {
        let mut bytes = Vec::new();
        append(&mut bytes, &Call { number: 7, ..Default::default() });
        append(&mut bytes, &Gap { lost: 3, ..Default::default() });
        let whole = bytes.len();
        append(&mut bytes, &Call::default());
        bytes.truncate(bytes.len() - 1);
        let mut lengths = Vec::new();
        assert_eq!(records(&bytes, &mut |event: &[u8]| lengths.push(event.len())).unwrap(), whole);
        assert_eq!(lengths, [80, 40]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = records(&bytes, &mut |_: &[u8]| {});
        }
    }
}
