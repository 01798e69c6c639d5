//! Folded stacks, as flame graph tools read them: `phase;role;call NANOSECONDS`, one line for each.

use std::{collections::BTreeMap, io::Write};

use gpuos_model::units::printable;

use super::{ExportError, Exporter};
use crate::{rows::EventRow, table::word};

/// Nanoseconds by stack.
#[derive(Debug, Default)]
pub(super) struct Folded {
    stacks: BTreeMap<String, u64>,
}

/// The frames of a call from the outside in: its phases, its role, what it is.
pub(super) fn stack(row: &EventRow<'_>) -> Vec<String> {
    let phase = if row.phase.is_empty() { "no phase" } else { row.phase };
    // A separator in a label is written `\/`.
    let phases = phase.replace("\\/", "\u{0}");
    let phases = phases.split('/').map(|label| label.replace('\u{0}', "/"));
    phases.chain([row.role.to_owned(), row.call()]).collect()
}

impl Exporter for Folded {
    fn take(&mut self, row: &EventRow<'_>, _to: &mut dyn Write) -> Result<(), ExportError> {
        let Some(duration) = row.duration.filter(|_| row.event == word::CALL) else { return Ok(()) };
        // `;` and spaces at the end of a line have a meaning.
        let frames: Vec<String> = stack(row).iter().map(|frame| printable(frame).replace(';', ",")).collect();
        let sum = self.stacks.entry(frames.join(";")).or_default();
        *sum = sum.saturating_add(duration);
        Ok(())
    }

    fn finish(&mut self, to: &mut dyn Write) -> Result<(), ExportError> {
        for (stack, nanoseconds) in &self.stacks {
            writeln!(to, "{stack} {nanoseconds}")?;
        }
        Ok(())
    }
}
