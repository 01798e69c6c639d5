//! Colours of the roles, the same wherever a role is shown: Okabe and Ito's set for colour-blind readers.

use crate::model::roles::Role;

/// Red, green and blue of a role.
#[must_use]
pub const fn color_of(role: Role) -> (u8, u8, u8) {
    match role {
        Role::Memory => (86, 180, 233),
        Role::Submission => (213, 94, 0),
        Role::Synchronization => (230, 159, 0),
        Role::Scheduling => (0, 158, 115),
        Role::Bookkeeping => (204, 121, 167),
        Role::Io => (153, 153, 153),
        Role::Multiplexed => (240, 228, 66),
        Role::Unknown => (120, 120, 120),
    }
}
