//! `gpuos-trace pressures`: what presses on the system, ranked from datasets with interventions and sessions of real models.

use anyhow::{Context as _, Result};
use gpuos_analysis::pressure;
use gpuos_host::{diagnostics, files, screen};

use super::{PressuresArgs, report::open};

pub(super) fn pressures(args: &PressuresArgs) -> Result<()> {
    let text = files::read_to_string(&args.pressures).with_context(|| args.pressures.display().to_string())?;
    let datasets = args.mechanisms.iter().map(|folder| open(folder)).collect::<Result<Vec<_>>>()?;
    let list = pressure::list(&text, &datasets, &args.sessions)?;
    if let Some(output) = &args.output {
        files::write(output, &serde_json::to_vec_pretty(&list)?)?;
        diagnostics::report(&format!("wrote {}", output.display()));
    }
    screen::print(&pressure::markdown(&list))?;
    Ok(())
}
