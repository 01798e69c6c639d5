//! Colours of the roles, those of the reports' plots.

use crate::model::roles::Role;

/// Red, green and blue of a role.
#[must_use]
pub fn color_of(role: Role) -> (u8, u8, u8) {
    gpuos_analysis::palette::color_of(role.name())
}
