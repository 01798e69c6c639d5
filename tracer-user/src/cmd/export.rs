//! `gpuos-trace export --to FORMAT FILE`: a recording for other tools.

use std::io::{self, BufWriter, Write as _};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    cli::ExportArgs,
    export::{self, Target},
    record::source::{self, Source},
    sink, talk,
};

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
        .map(|path| sink::target_of(path).map_err(|error| anyhow!("cannot write `{}`: {error}", path.display())));
    let output = output.transpose()?;
    if output.as_ref().is_some_and(|path| sink::is_same_file(path, &args.file)) {
        bail!("`{shown}` is what is exported, and would be gone\nhint: `-o` another file");
    }
    let damage = match (&output, args.to) {
        (None, Target::Parquet) => bail!("a recording needs a file\nhint: `-o FILE.parquet`"),
        (Some(path), Target::Parquet) => {
            let Source::Journal(reader) = source else {
                bail!(
                    "`{shown}` is finished already\nhint: `--to parquet` is for the `.part` of a recording that was not"
                )
            };
            source::finish(*reader, path, source::unfinished)?.1
        }
        (None, target) => {
            let mut output = BufWriter::new(sink::for_people(io::stdout().lock()));
            match export::export(source, target, &mut output) {
                // Who reads it has seen enough.
                Err(error) if error.is_broken_pipe() => None,
                other => other.with_context(|| format!("exporting `{shown}`"))?,
            }
        }
        (Some(path), target) => {
            let failed = |error: io::Error| anyhow!("cannot write `{}`: {error}", path.display());
            let mut output = BufWriter::new(sink::beside(path).map_err(failed)?);
            let damage = export::export(source, target, &mut output).with_context(|| format!("exporting `{shown}`"))?;
            output.flush().map_err(failed)?;
            let file = output.into_inner().map_err(|error| failed(error.into_error()))?;
            sink::persist(file, path).map_err(failed)?;
            damage
        }
    };
    if let Some(damage) = damage {
        talk::say(&format!("`{shown}` is damaged; what is before that was taken: {damage}"));
    }
    Ok(())
}
