//! `gpuos-trace pressures PRESSURES.toml --mechanisms DATASET --sessions FOLDER`.

use anyhow::{Context as _, Result, bail};
use gpuos_analysis::{
    findings,
    pressure::{self, Mechanism},
};
use gpuos_host::{diagnostics, files, screen};

use super::{PressuresArgs, report::open};

pub(super) fn pressures(args: &PressuresArgs) -> Result<()> {
    let path = args.pressures.display();
    let text = files::read_to_string(&args.pressures).with_context(|| path.to_string())?;
    let plans = pressure::parse(&text).with_context(|| path.to_string())?;
    let datasets = args.mechanisms.iter().map(|folder| open(folder)).collect::<Result<Vec<_>>>()?;
    let found = findings::find(&datasets)?;
    let units = pressure::models::read(&args.sessions)?;
    if units.is_empty() {
        bail!(
            "{}: no session of a real model\nhint: `study/phase2/sessions.sh` leaves them as NAME.bare.jsonl, NAME.traced.jsonl and NAME.parquet",
            args.sessions.display()
        );
    }
    let mechanisms: Vec<Mechanism> = found.interventions.iter().map(Mechanism::of).collect();
    let list = pressure::rank(plans, &mechanisms, units)?;
    if let Some(output) = &args.output {
        files::write(output, &serde_json::to_vec_pretty(&list)?)?;
        diagnostics::report(&format!("wrote {}", output.display()));
    }
    screen::print(&pressure::markdown(&list))?;
    Ok(())
}
