//! The list of abstraction pressures, from the committed datasets of interventions and sessions of real models.

use std::{fs::File, path::Path};

use anyhow::{Context as _, Result};
use gpuos_analysis::pressure;

use crate::{Files, reports::Unpacked};

/// What the interventions are of.
const MECHANISMS: [&str; 2] = ["phase2/h200", "phase2/h200-start"];
/// The sessions.
const SESSIONS: &str = "phase2/models-h200/sessions.tar.gz";
/// What a person wrote.
const PRESSURES: &str = "phase2/pressures.toml";

/// `phase2/pressures.json` and its text.
///
/// # Errors
/// Data cannot be read.
pub(crate) fn make(study: &Path) -> Result<Files> {
    let unpacked = MECHANISMS.map(|folder| Unpacked::new(study, folder));
    let unpacked = unpacked.into_iter().collect::<Result<Vec<_>>>()?;
    let datasets = unpacked.iter().map(Unpacked::open).collect::<Result<Vec<_>>>()?;
    let sessions = tempfile::tempdir()?;
    let archive = study.join(SESSIONS);
    let file = File::open(&archive).with_context(|| archive.display().to_string())?;
    tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(sessions.path())?;
    let path = study.join(PRESSURES);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let list = pressure::list(&text, &datasets, sessions.path())?;
    let mut json = serde_json::to_vec_pretty(&list)?;
    json.push(b'\n');
    let text = format!("# The list of pressures\n\n{}", pressure::markdown(&list).trim_end());
    Ok([("phase2/pressures.json".into(), json), ("phase2/pressures.md".into(), (text + "\n").into_bytes())].into())
}
