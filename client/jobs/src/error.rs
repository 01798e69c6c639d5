//! What can go wrong, each with a code for programs and a text for people.

use std::fmt;

/// A code of the C interface. 0 is success; codes never change their meaning.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// The time to wait is over, the job is not.
    Timeout = 1,
    /// An argument is none that this function takes.
    Invalid = 2,
    /// The handle names nothing that is there: ended, closed, or never made.
    Stale = 3,
    /// The job is in a state in which this cannot be done.
    State = 4,
    /// The runtime is not here, or lacks a function.
    NoRuntime = 5,
    /// The runtime refused a call.
    Runtime = 6,
    /// The job's work failed on the device.
    Failed = 7,
    /// The context or device that the job ran on is gone.
    Lost = 8,
    /// The job was cancelled.
    Cancelled = 9,
    /// No memory.
    Memory = 10,
    /// More jobs at once than the library holds.
    TooMany = 11,
    /// The stream is being captured into a graph; a job cannot begin or end inside.
    Capturing = 12,
    /// The process has forked: the parent's jobs are not the child's.
    Forked = 13,
    /// A system call failed.
    System = 14,
    /// A fault of this library.
    Internal = 15,
    /// The back-end cannot do this.
    Unsupported = 16,
    /// Memory of an ended job was written (found by a context that debugs).
    UsedAfterEnd = 17,
}

impl Status {
    /// Every code.
    ///
    /// cbindgen:ignore
    pub const ALL: [Self; 18] = [
        Self::Ok,
        Self::Timeout,
        Self::Invalid,
        Self::Stale,
        Self::State,
        Self::NoRuntime,
        Self::Runtime,
        Self::Failed,
        Self::Lost,
        Self::Cancelled,
        Self::Memory,
        Self::TooMany,
        Self::Capturing,
        Self::Forked,
        Self::System,
        Self::Internal,
        Self::Unsupported,
        Self::UsedAfterEnd,
    ];

    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Ok => "success",
            Self::Timeout => "the time to wait is over, the job is not",
            Self::Invalid => "an argument that this function does not take",
            Self::Stale => "the handle names nothing that is there: it was ended, closed, or never made",
            Self::State => "the job is in a state in which this cannot be done",
            Self::NoRuntime => "the runtime is not here, or lacks a function",
            Self::Runtime => "the runtime refused a call",
            Self::Failed => "the job's work failed on the device",
            Self::Lost => "the context or device that the job ran on is gone",
            Self::Cancelled => "the job was cancelled",
            Self::Memory => "no memory",
            Self::TooMany => "more jobs at once than the library holds",
            Self::Capturing => "the stream is being captured into a graph",
            Self::Forked => "the process has forked: the parent's jobs are not the child's",
            Self::System => "a system call failed",
            Self::Internal => "a fault of libgpuos_job",
            Self::Unsupported => "the back-end cannot do this",
            Self::UsedAfterEnd => "memory of an ended job was written",
        }
    }
}

/// An error: a code, the runtime's own code (0 where it has none to do with it), and what failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// For programs.
    pub status: Status,
    /// Of the runtime or of `errno`.
    pub code: i32,
    /// What failed, on what.
    pub what: String,
}

impl Error {
    /// One that no runtime said.
    pub fn new(status: Status, what: impl Into<String>) -> Self {
        Self { status, code: 0, what: what.into() }
    }

    /// Whether nothing that its stream has is done any more.
    pub(crate) fn ends_a_stream(&self) -> bool {
        matches!(self.status, Status::Failed | Status::Lost)
    }

    /// The last error of the system.
    pub(crate) fn system(what: &str) -> Self {
        let error = std::io::Error::last_os_error();
        Self {
            status: Status::System,
            code: error.raw_os_error().unwrap_or_default(),
            what: format!("{what}: {error}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status.text(), self.what)
    }
}

/// What functions here return.
pub type Result<T> = std::result::Result<T, Error>;
