//! `gpuos-trace export --to FORMAT FILE`: a recording for other tools.

use std::io::{self, BufWriter, Write as _};

use anyhow::{Context as _, Result, anyhow, bail};
use gpuos_host::{diagnostics, files, screen};
use gpuos_recording::{
    export,
    source::{self, Source},
};

use crate::cli::ExportArgs;

pub(super) fn export(args: &ExportArgs) -> Result<()> {
    let shown = args.file.display();
    let Some(source) = Source::open(&args.file)? else {
        bail!(
            "`{shown}` is no recording\nhint: `gpuos-trace record -o FILE -- CMD` makes one; `show` reads the files of `run -o`"
        );
    };
    let output = args
        .output
        .as_deref()
        .map(|path| files::target_of(path).map_err(|error| anyhow!("cannot write `{}`: {error}", path.display())));
    let output = output.transpose()?;
    if output.as_ref().is_some_and(|path| files::is_same_file(path, &args.file)) {
        bail!("`{shown}` is what is exported, and would be gone\nhint: `-o` another file");
    }
    let damage = match (&output, args.to.other()) {
        (None, None) => bail!("a recording needs a file\nhint: `-o FILE.parquet`"),
        (Some(path), None) => {
            let Source::Journal(reader) = source else {
                bail!(
                    "`{shown}` is finished already\nhint: `--to parquet` is for the `.part` of a recording that was not"
                )
            };
            source::finish(*reader, path, source::unfinished)?.1
        }
        (None, Some(format)) => {
            let mut output = BufWriter::new(screen::standard_output());
            match export::export(source, format, &mut output) {
                // Who reads it has seen enough.
                Err(error) if error.is_broken_pipe() => None,
                other => other.with_context(|| format!("exporting `{shown}`"))?,
            }
        }
        (Some(path), Some(format)) => {
            let failed = |error: io::Error| anyhow!("cannot write `{}`: {error}", path.display());
            let mut output = BufWriter::new(files::begin(path).map_err(failed)?);
            let damage = export::export(source, format, &mut output).with_context(|| format!("exporting `{shown}`"))?;
            output.flush().map_err(failed)?;
            let file = output.into_inner().map_err(|error| failed(error.into_error()))?;
            file.persist().map_err(failed)?;
            damage
        }
    };
    if let Some(damage) = damage {
        diagnostics::report(&format!("`{shown}` is damaged; what is before that was taken: {damage}"));
    }
    Ok(())
}
