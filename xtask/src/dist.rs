//! `cargo xtask dist`: one file that runs on any Linux of its architecture, without libraries.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    checksum::sha256,
    process::{self, cargo},
    setup::{self, STATIC_TARGET},
};

/// Builds the tracer statically, without symbols, and says where it is.
pub(crate) fn run() -> Result<()> {
    setup::static_target()?;
    eprintln!("building for {STATIC_TARGET} (minutes the first time)");
    process::run(cargo().args([
        "build",
        "--release",
        "--locked",
        "--target",
        STATIC_TARGET,
        "--package",
        "gpuos-trace",
        "--bin",
        "gpuos-trace",
        // Of this crate only: others keep what backtraces need.
        "--config",
        "profile.release.strip='symbols'",
    ]))?;
    let target = process::target_folder();
    let built = target.join(STATIC_TARGET).join("release/gpuos-trace");
    let output = Command::new(&built).arg("--version").output().with_context(|| built.display().to_string())?;
    if !output.status.success() {
        bail!("{} does not run: {}", built.display(), output.status);
    }
    let bytes = fs::read(&built)?;
    let image = object::read::elf::ElfFile64::<object::Endianness>::parse(&*bytes)?;
    if needs_libraries(&image) {
        bail!("{} needs libraries: it is not linked statically", built.display());
    }
    let version = String::from_utf8_lossy(&output.stdout);
    let version = version.split_whitespace().nth(1).context("`--version` prints no version")?;
    let folder = target.join("dist");
    fs::create_dir_all(&folder)?;
    let architecture = STATIC_TARGET.split('-').next().unwrap_or_default();
    let file = folder.join(format!("gpuos-trace-{version}-{architecture}"));
    fs::copy(&built, &file)?;
    println!("{} {} MiB sha256 {}", file.display(), bytes.len() >> 20, sha256(&bytes));
    Ok(())
}

/// Whether the loader would have to find something.
fn needs_libraries(image: &object::read::elf::ElfFile64<'_, object::Endianness>) -> bool {
    use object::{elf, read::elf::ProgramHeader as _};
    image.elf_program_headers().iter().any(|header| header.p_type(image.endian()) == elf::PT_INTERP)
}
