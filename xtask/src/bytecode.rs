//! The BPF object: compiled from `tracer-ebpf`, committed, and guarded by a fingerprint of its sources.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use gpuos_tracer_abi::FINGERPRINT_SECTION;
use object::{Object as _, ObjectSection as _};
use sha2::{Digest as _, Sha256};

use crate::{
    checksum::hexadecimal,
    process::{cargo, find_program, root, run},
};

/// The committed object.
const OBJECT: &str = "tracer-ebpf/bytecode/gpuos-trace.bpf.o";
/// One with what the programs say of their work, for the feature `bpf-log`. Not committed.
const OBJECT_WITH_LOG: &str = "tracer-ebpf/bytecode/gpuos-trace-log.bpf.o";
const TARGET: &str = "bpfel-unknown-none";
/// What the object is compiled with. Part of the fingerprint.
const RUSTC_FLAGS: [&str; 4] = ["-Clinker=bpf-linker", "-Cdebuginfo=2", "-Clink-arg=--btf", "-Cpanic=abort"];

/// Options of `cargo xtask build-ebpf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Make the object of the feature `bpf-log` beside the released one
    #[arg(long)]
    log: bool,
}

/// A Rust that can compile for BPF.
enum Toolchain {
    /// Its library folder ships `core` for BPF (Debian's `rustc-web`).
    Shipped { rustc: PathBuf },
    /// rustup's nightly builds `core` itself.
    Nightly,
}

/// A rustc whose library folder has `core` for BPF.
fn ships_core(rustc: &Path) -> bool {
    let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() else { return false };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success() && sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

fn toolchain() -> Result<Toolchain> {
    let candidates =
        std::env::var_os("GPUOS_BPF_RUSTC").map(PathBuf::from).into_iter().chain([PathBuf::from("/usr/bin/rustc")]);
    for rustc in candidates {
        if ships_core(&rustc) {
            return Ok(Toolchain::Shipped { rustc });
        }
    }
    let nightly = Command::new("rustc").args(["+nightly", "--print", "sysroot"]).output();
    if let Ok(output) = nightly
        && output.status.success()
        && Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("lib/rustlib/src/rust/library").is_dir()
    {
        return Ok(Toolchain::Nightly);
    }
    bail!(
        "no Rust here can compile for BPF\n\
         hint: `cargo xtask setup --bpf` installs one on Debian; elsewhere:\n  \
         rustup toolchain install nightly --component rust-src && cargo install bpf-linker"
    )
}

/// Compiles the object and puts it in its place.
pub(crate) fn build(options: &Options) -> Result<()> {
    let toolchain = toolchain()?;
    if find_program("bpf-linker").is_none() {
        bail!(
            "`bpf-linker` is not in PATH\nhint: `cargo xtask setup --bpf` installs it on Debian; elsewhere `cargo install bpf-linker`"
        );
    }
    let target_folder = root().join("target/bpf");
    let mut flags: Vec<OsString> = RUSTC_FLAGS.iter().map(OsString::from).collect();
    // No path of this machine in the object.
    flags.push(format!("--remap-path-prefix={}=.", root().display()).into());
    if let Some(home) = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
    {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()).into());
    }
    let mut command = cargo();
    command
        .args([
            "build",
            "--quiet",
            "--profile",
            "bpf",
            "--package",
            "gpuos-tracer-ebpf",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(&target_folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(&OsString::from("\x1f")))
        .env("GPUOS_BPF_FINGERPRINT", fingerprint()?)
        .env_remove("RUSTUP_TOOLCHAIN");
    match &toolchain {
        Toolchain::Shipped { rustc } => {
            eprintln!("compiling for BPF with {}", rustc.display());
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        }
        Toolchain::Nightly => {
            eprintln!("compiling for BPF with rustup's nightly");
            command.env("RUSTUP_TOOLCHAIN", "nightly").args(["-Z", "build-std=core"]);
        }
    }
    if options.log {
        command.args(["--features", "log"]);
    }
    run(&mut command)?;
    let built = target_folder.join(TARGET).join("bpf/gpuos-trace-bpf");
    let shown = if options.log { OBJECT_WITH_LOG } else { OBJECT };
    let object = root().join(shown);
    fs::create_dir_all(object.parent().context("the object is in a folder")?)?;
    let before = fs::read(&object).unwrap_or_default();
    strip(&built, &object)?;
    let after = fs::read(&object)?;
    let change = if before == after { "the same as before" } else { "changed" };
    eprintln!("wrote {shown} ({} bytes, {change})", after.len());
    if options.log { Ok(()) } else { check() }
}

/// Drops the DWARF sections; the kernel reads BTF only.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let tool = ["/usr/lib/llvm-22/bin/llvm-objcopy"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .or_else(|| find_program("llvm-objcopy"));
    if let Some(tool) = tool {
        run(Command::new(tool).arg("--strip-debug").arg(from).arg(to))
    } else {
        eprintln!("no llvm-objcopy: the object keeps its debug sections");
        fs::copy(from, to)?;
        Ok(())
    }
}

/// Fails when the committed object was built from other sources.
pub(crate) fn check() -> Result<()> {
    let data = fs::read(root().join(OBJECT)).with_context(|| format!("no {OBJECT}"))?;
    let file = object::File::parse(&*data).with_context(|| format!("{OBJECT} is no object file"))?;
    let found = file.section_by_name(FINGERPRINT_SECTION).and_then(|section| section.data().ok()).unwrap_or_default();
    let expected = fingerprint()?;
    if found != expected.as_bytes() {
        bail!(
            "{OBJECT} is stale: it was built from {}, the sources are {expected}\n\
             hint: `cargo xtask build-ebpf`, then commit it",
            String::from_utf8_lossy(found)
        );
    }
    eprintln!("{OBJECT} belongs to its sources");
    Ok(())
}

/// SHA-256 of everything that the object is made from.
fn fingerprint() -> Result<String> {
    let mut files = vec![root().join("tracer-ebpf/Cargo.toml"), root().join("tracer-abi/Cargo.toml")];
    let mut folders = vec![root().join("tracer-ebpf/src"), root().join("tracer-abi/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for flag in RUSTC_FLAGS {
        hash.update(flag);
    }
    for file in files {
        hash.update(file.strip_prefix(root())?.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(fs::read(&file).with_context(|| file.display().to_string())?);
    }
    let workspace = fs::read_to_string(root().join("Cargo.toml"))?;
    for profile in workspace.split("\n[").filter(|table| table.starts_with("profile.bpf")) {
        hash.update(profile.trim());
    }
    let lock = fs::read_to_string(root().join("Cargo.lock"))?;
    for package in lock.split("[[package]]").filter(|package| package.contains("name = \"aya-ebpf")) {
        hash.update(package.trim());
    }
    Ok(hexadecimal(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_object_is_not_stale() {
        super::check().unwrap();
    }
}
