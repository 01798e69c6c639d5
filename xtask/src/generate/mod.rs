//! Generated files, committed: tables from the CSV files under `decode/data`, the C header of `libgpuos_job`, the references of
//! roles and commands, and kernels for AMD's GPUs; `--check` guards drift.

mod code_objects;
mod commands;
mod ioctls;
mod job_header;
mod roles;
mod syscalls;

use std::{fs, process::Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process::root;

/// Options of `cargo xtask gen`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Change nothing; fail when a table differs from what its data gives
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let tables = [
        ("decode/src/tables/syscalls.rs", format(&syscalls::tables()?)?),
        ("decode/src/tables/ioctls.rs", ioctls::tables()?),
        ("decode/src/tables/fields.rs", ioctls::fields()?),
        ("client/jobs/include/gpuos_job.h", job_header::header()?),
        ("docs/reference/roles.md", roles::reference()?),
        ("docs/reference/commands.md", commands::reference()?),
    ];
    for (file, text) in tables {
        let path = root().join(file);
        let old = fs::read_to_string(&path).unwrap_or_default();
        if old == text {
            eprintln!("{} is up to date", path.display());
            continue;
        }
        if options.check {
            bail!(
                "{} differs from what it is made of\nhint: run `cargo xtask gen` and commit the result",
                path.display()
            );
        }
        fs::write(&path, text)?;
        eprintln!("wrote {}", path.display());
    }
    code_objects::build(options.check)
}

fn format(text: &str) -> Result<String> {
    use std::io::Write as _;
    let mut child = std::process::Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root().join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start rustfmt; `rustup component add rustfmt` installs it")?;
    child.stdin.take().context("no pipe to rustfmt")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("rustfmt failed: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}
