//! Colours of the roles, the same wherever a role is shown, the live view included: the set of Okabe and Ito (2008), which
//! people with any colour vision tell apart.

/// Red, green and blue of a role by its name; black for all calls together.
#[must_use]
pub fn color_of(role: &str) -> (u8, u8, u8) {
    match role {
        "memory" => (86, 180, 233),
        "submission" => (213, 94, 0),
        "synchronization" => (230, 159, 0),
        "scheduling" => (0, 158, 115),
        "bookkeeping" => (204, 121, 167),
        "io" => (153, 153, 153),
        "multiplexed" => (240, 228, 66),
        "unknown" => (120, 120, 120),
        _ => (0, 0, 0),
    }
}

/// The roles in the order in which they are stacked and listed.
pub const ROLES: [&str; 8] =
    ["memory", "submission", "synchronization", "scheduling", "bookkeeping", "io", "multiplexed", "unknown"];
