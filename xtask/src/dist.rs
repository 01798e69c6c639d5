//! `cargo xtask dist`: the tracer as one file that runs on any Linux of its architecture, without libraries, and `libgpuos_job` with
//! header, pkg-config file, Python module and the library that is preloaded as an archive.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    checksum::sha256,
    process::{self, cargo, find_program, root},
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
    jobs(version, architecture, &folder)
}

/// The library, as an archive that is unpacked anywhere: it asks for the C library of this machine or a newer one.
fn jobs(version: &str, architecture: &str, folder: &Path) -> Result<()> {
    process::run(
        cargo()
            .args([
                "build",
                "--release",
                "--locked",
                "--package",
                "gpuos-job",
                "--package",
                "gpuos-job-preload",
                "--lib",
            ])
            .args(["--config", "profile.release.strip='symbols'"]),
    )?;
    let name = format!("gpuos-job-{version}-{architecture}");
    let unpacked = tempfile::tempdir()?;
    let within = unpacked.path().join(&name);
    let crate_folder = root().join("client/jobs");
    let soname = "libgpuos_job.so.1";
    fs::create_dir_all(within.join("lib/pkgconfig"))?;
    let built = process::target_folder().join("release");
    fs::copy(built.join("libgpuos_job.so"), within.join("lib").join(soname))?;
    fs::copy(built.join("libgpuos_job_preload.so"), within.join("lib/libgpuos_job_preload.so"))?;
    std::os::unix::fs::symlink(soname, within.join("lib/libgpuos_job.so"))?;
    for (from, to) in
        [("include/gpuos_job.h", "include"), ("python/gpuos_job.py", "python"), ("README.md", "."), ("SPEC.md", ".")]
    {
        fs::create_dir_all(within.join(to))?;
        fs::copy(crate_folder.join(from), within.join(to).join(Path::new(from).file_name().unwrap_or_default()))?;
    }
    let configured = fs::read_to_string(crate_folder.join("gpuos_job.pc.in"))?.replace("@VERSION@", version);
    fs::write(within.join("lib/pkgconfig/gpuos_job.pc"), configured)?;
    uses(&within, &crate_folder)?;
    let file = folder.join(format!("{name}.tar.gz"));
    process::run(Command::new("tar").arg("-C").arg(unpacked.path()).arg("-czf").arg(&file).arg(&name))?;
    let bytes = fs::read(&file)?;
    println!("{} {} KiB sha256 {}", file.display(), bytes.len() >> 10, sha256(&bytes));
    Ok(())
}

/// Compiles and runs a program with what is in the archive, as pkg-config tells it to.
fn uses(within: &Path, crate_folder: &Path) -> Result<()> {
    if find_program("pkg-config").is_none() {
        eprintln!("no pkg-config here: the archive is not tried\nhint: `sudo apt-get install pkg-config`");
        return Ok(());
    }
    let output = Command::new("pkg-config")
        .args(["--cflags", "--libs", "gpuos_job"])
        .env("PKG_CONFIG_PATH", within.join("lib/pkgconfig"))
        .output()?;
    if !output.status.success() {
        bail!("pkg-config: {}", String::from_utf8_lossy(&output.stderr));
    }
    let flags = String::from_utf8(output.stdout)?;
    let program = within.with_file_name("program");
    let source = crate_folder.join("tests/c/jobs.c");
    let standard = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-o"];
    process::run(Command::new("cc").args(standard).arg(&program).arg(source).args(flags.split_whitespace()))?;
    process::run(Command::new(program).env("LD_LIBRARY_PATH", within.join("lib")))
}

/// Whether the loader would have to find something.
fn needs_libraries(image: &object::read::elf::ElfFile64<'_, object::Endianness>) -> bool {
    use object::{elf, read::elf::ProgramHeader as _};
    image.elf_program_headers().iter().any(|header| header.p_type(image.endian()) == elf::PT_INTERP)
}
