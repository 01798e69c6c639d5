//! The states of a job, and who may move it.
//!
//! ```text
//! NEW ─begin─► OPEN ─submit─► SUBMITTED ─token─► DONE ──end─► ENDED
//!                │                └─error, cancel─► FAILED ─end─┘
//!                └─cancel, a refused submit─► FAILED
//! ```

use crate::error::{Error, Result, Status};

/// Where a job stands.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Made; nothing works for it. Inside `begin` alone.
    New = 0,
    /// Its thread is at work for it.
    Open = 1,
    /// A completion token is queued behind its last operation.
    Submitted = 2,
    /// The token came.
    Done = 3,
    /// It failed, or was cancelled.
    Failed = 4,
    /// Its memory is back, its handle stale.
    Ended = 5,
}

/// What moves a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The program begins it.
    Begin,
    /// The program submits it.
    Submit,
    /// The token came: seen by a wait or a poll.
    Token,
    /// The runtime reports an error, or the watchdog finds one.
    Error,
    /// The program gives it up.
    Cancel,
    /// The program ends it.
    End,
}

impl State {
    /// Every one.
    ///
    /// cbindgen:ignore
    pub const ALL: [Self; 6] = [Self::New, Self::Open, Self::Submitted, Self::Done, Self::Failed, Self::Ended];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Open => "open",
            Self::Submitted => "submitted",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Ended => "ended",
        }
    }

    /// Where an event moves it.
    ///
    /// # Errors
    /// It cannot happen in this state.
    pub fn after(self, event: Event) -> Result<Self> {
        match (self, event) {
            (Self::New, Event::Begin) => Ok(Self::Open),
            (Self::Open, Event::Submit) => Ok(Self::Submitted),
            (Self::Submitted, Event::Token) => Ok(Self::Done),
            (Self::Open | Self::Submitted, Event::Error | Event::Cancel) => Ok(Self::Failed),
            (Self::Done | Self::Failed, Event::End) => Ok(Self::Ended),
            (Self::Ended, _) => Err(Error::new(Status::Stale, "an ended job")),
            _ => Err(Error::new(Status::State, format!("the job is {}", self.name()))),
        }
    }
}
