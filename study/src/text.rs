//! Texts: Markdown in which numbers are questions to data. Files that end with `.j2` alone are parts that texts include.

use std::path::Path;

use anyhow::{Context as _, Result};
use minijinja::{Environment, UndefinedBehavior};
use walkdir::WalkDir;

use crate::{Files, data};

/// A text ends with this, and what is made of it with the first of the two.
const SUFFIX: &str = ".md.j2";

/// Every text of the study that is asked for, made.
///
/// # Errors
/// A text asks for what the data do not have.
pub(crate) fn all(study: &Path, is_asked: &dyn Fn(&Path) -> bool) -> Result<Files> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_loader(minijinja::path_loader(study));
    data::add(&mut environment, &data::Study::new(study));
    let mut files = Files::new();
    for entry in WalkDir::new(study).sort_by_file_name() {
        let entry = entry?;
        let path = entry.path();
        if !path.to_string_lossy().ends_with(SUFFIX) || !is_asked(path.strip_prefix(study)?) {
            continue;
        }
        let template = std::fs::read_to_string(path)?;
        let shown = path.strip_prefix(study)?.display().to_string();
        let text = environment
            .template_from_named_str(&shown, &template)
            .and_then(|template| template.render(()))
            .map_err(|error| anyhow::anyhow!("{error:#}"))
            .with_context(|| shown)?;
        files.insert(path.with_extension("").strip_prefix(study)?.to_owned(), text.into_bytes());
    }
    Ok(files)
}
