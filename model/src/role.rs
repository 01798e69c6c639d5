//! Roles: what a call does for GPU work, and the colour of each wherever a role is shown.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a call does for GPU work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Allocating, mapping and freeing memory.
    Memory,
    /// Giving work to a device.
    Submission,
    /// Waiting for work or for other threads.
    Synchronization,
    /// Who runs where and when.
    Scheduling,
    /// Discovery, start-up, teardown, time, signals.
    Bookkeeping,
    /// Files and network: not GPU work.
    Io,
    /// `ioctl`: the role comes from the command.
    Multiplexed,
    /// Not in the table.
    #[default]
    Unknown,
}

impl Role {
    /// Every role, in the order in which they are stacked, and in which tables show equals.
    pub const ALL: [Self; 8] = [
        Self::Memory,
        Self::Submission,
        Self::Synchronization,
        Self::Scheduling,
        Self::Bookkeeping,
        Self::Io,
        Self::Multiplexed,
        Self::Unknown,
    ];

    /// The roles that a user can give to a call.
    pub const ASSIGNABLE: [Self; 6] =
        [Self::Memory, Self::Submission, Self::Synchronization, Self::Scheduling, Self::Bookkeeping, Self::Io];

    /// The word used in tables and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Submission => "submission",
            Self::Synchronization => "synchronization",
            Self::Scheduling => "scheduling",
            Self::Bookkeeping => "bookkeeping",
            Self::Io => "io",
            Self::Multiplexed => "multiplexed",
            Self::Unknown => "unknown",
        }
    }

    /// Red, green and blue, from the set of Okabe and Ito (2008), which people with any colour vision tell apart.
    #[must_use]
    pub const fn color(self) -> (u8, u8, u8) {
        match self {
            Self::Memory => (86, 180, 233),
            Self::Submission => (213, 94, 0),
            Self::Synchronization => (230, 159, 0),
            Self::Scheduling => (0, 158, 115),
            Self::Bookkeeping => (204, 121, 167),
            Self::Io => (153, 153, 153),
            Self::Multiplexed => (240, 228, 66),
            Self::Unknown => (120, 120, 120),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.name() == word).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_written_as_its_name_and_read_back() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        }
        assert_eq!("fast".parse::<Role>(), Err(()));
    }

    #[test]
    fn no_two_roles_look_alike() {
        let colors: std::collections::HashSet<_> = Role::ALL.iter().map(|role| role.color()).collect();
        assert_eq!(colors.len(), Role::ALL.len());
    }
}
