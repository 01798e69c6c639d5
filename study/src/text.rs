//! Texts: Markdown in which numbers are questions to data.

use std::path::Path;

use anyhow::{Context as _, Result};
use minijinja::{Environment, UndefinedBehavior};
use walkdir::WalkDir;

use crate::{Files, data};

/// What a text ends with that is made into another.
const SUFFIX: &str = ".j2";

/// Every text of the study, made.
///
/// # Errors
/// A text asks for what the data do not have.
pub(crate) fn all(study: &Path) -> Result<Files> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    data::add(&mut environment, &data::Study::new(study));
    let mut files = Files::new();
    for entry in WalkDir::new(study).sort_by_file_name() {
        let entry = entry?;
        let path = entry.path();
        let Some(made) = path.to_str().and_then(|path| path.strip_suffix(SUFFIX)) else { continue };
        let template = std::fs::read_to_string(path)?;
        let shown = path.strip_prefix(study)?.display().to_string();
        let text = environment
            .template_from_named_str(&shown, &template)
            .and_then(|template| template.render(()))
            .map_err(|error| anyhow::anyhow!("{error:#}"))
            .with_context(|| shown)?;
        files.insert(Path::new(made).strip_prefix(study)?.to_owned(), text.into_bytes());
    }
    Ok(files)
}
