//! What is known of a call on a device, and how a row is found in a table.

use gpuos_model::Role;

use crate::{tables::Command, version::Version};

/// What is known of a call on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Name of the command; for an unknown one its parts.
    pub command: String,
    /// The control command, class or other word that tells calls of the command apart; may be empty.
    pub detail: String,
    /// Its role; `None`: that of the system call.
    pub role: Option<Role>,
    /// Whether the tables know the command and its detail, or the detail is opaque by the driver's design.
    pub known: bool,
    /// A finer word for the role.
    pub purpose: &'static str,
    /// Whether the device is a GPU's.
    pub on_gpu: bool,
}

/// Parts of an ioctl number, in the way of strace.
#[must_use]
pub fn parts(command: u32) -> String {
    let direction = match command >> 30 {
        0 => "_IOC_NONE",
        1 => "_IOC_WRITE",
        2 => "_IOC_READ",
        _ => "_IOC_READ|_IOC_WRITE",
    };
    format!("_IOC({direction}, {:#x}, {:#x}, {:#x})", command >> 8 & 0xff, command & 0xff, command >> 16 & 0x3fff)
}

/// Of the commands with a number, the one that this version of the driver means; without a version the newest.
pub(crate) fn find(table: &'static [Command], number: u32, version: Option<&Version>) -> Option<&'static Command> {
    let start = table.partition_point(|command| command.number < number);
    let end = table.partition_point(|command| command.number <= number);
    let same = table[start..end].iter();
    match version {
        Some(version) => {
            let distance = |command: &&Command| version.distance(command.first, command.last);
            // Of several as near, the first: aliases follow the name that the driver itself uses.
            same.min_by_key(distance)
        }
        // Of several as new, likewise: `max_by_key` takes the last.
        None => same.rev().max_by_key(|command| Version::parse(command.last)),
    }
}

/// A command that no table has.
pub(crate) fn unknown(command: u32) -> Decoded {
    Decoded { command: parts(command), role: Some(Role::Unknown), ..Default::default() }
}

/// A command of which a table says everything.
pub(crate) fn plain(found: Option<&'static Command>, command: u32) -> Decoded {
    found.map_or_else(
        || unknown(command),
        |found| Decoded {
            command: found.name.to_owned(),
            role: Some(found.role),
            known: true,
            purpose: found.purpose,
            ..Default::default()
        },
    )
}
