//! Categories: which kind of kernel service a call is.

use std::{fmt, str::FromStr};

/// Kind of kernel service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Files, folders and their attributes.
    FileIo,
    /// Commands of drivers.
    Ioctl,
    /// Queues, semaphores and memory of System V and POSIX.
    Ipc,
    /// Mapping, protecting and advising memory.
    Memory,
    /// Sockets.
    Network,
    /// None of the others.
    Other,
    /// Waiting for fds.
    PollWait,
    /// Priorities, CPUs, yielding.
    Scheduling,
    /// Rights, keys, filters, BPF.
    Security,
    /// Sending and handling signals.
    Signal,
    /// Futexes and event counters.
    Sync,
    /// Making, replacing, ending and waiting for tasks.
    ThreadProcess,
    /// Clocks, timers, sleeping.
    Time,
    /// Not in the table.
    Unknown,
}

impl Category {
    /// Every category, by name.
    pub const ALL: [Self; 14] = [
        Self::FileIo,
        Self::Ioctl,
        Self::Ipc,
        Self::Memory,
        Self::Network,
        Self::Other,
        Self::PollWait,
        Self::Scheduling,
        Self::Security,
        Self::Signal,
        Self::Sync,
        Self::ThreadProcess,
        Self::Time,
        Self::Unknown,
    ];

    /// The word used in tables and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FileIo => "file-io",
            Self::Ioctl => "ioctl",
            Self::Ipc => "ipc",
            Self::Memory => "memory",
            Self::Network => "network",
            Self::Other => "other",
            Self::PollWait => "poll/wait",
            Self::Scheduling => "scheduling",
            Self::Security => "security",
            Self::Signal => "signal",
            Self::Sync => "sync",
            Self::ThreadProcess => "thread/process",
            Self::Time => "time",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Category {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|category| category.name() == word).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_category_is_read_back_and_they_are_by_name() {
        assert!(Category::ALL.iter().all(|category| category.name().parse() == Ok(*category)));
        assert!(Category::ALL.windows(2).all(|pair| pair[0].name() < pair[1].name()));
    }
}
