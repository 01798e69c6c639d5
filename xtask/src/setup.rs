//! Installs what the project needs: on Debian through apt, elsewhere by saying what to type.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::process::{self, as_root, cargo, find_program};

/// Options of `cargo xtask setup`. Without one, everything but `--vm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only a runtime on which `bench` can run without a GPU
    #[arg(long)]
    runtime: bool,
    /// Only what compiles the BPF programs
    #[arg(long)]
    bpf: bool,
    /// Only what the tests compare with
    #[arg(long)]
    tests: bool,
    /// Only what runs the tests in emulated machines (not part of everything)
    #[arg(long)]
    vm: bool,
}

/// An OpenCL runtime that executes on the CPU.
const RUNTIME: [&str; 2] = ["ocl-icd-libopencl1", "pocl-opencl-icd"];
/// A Rust with `core` for BPF, and the LLVM of its version for bpf-linker.
const BPF: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev"];
/// Programs that tests run or compare with; a browser for reports; a Vulkan driver that executes on the CPU, AMD's HIP
/// runtime.
const TESTS: [&str; 13] = [
    "strace",
    "gcc",
    "g++",
    "pkg-config",
    "golang-go",
    "python3",
    "python3-pip",
    "git",
    "chromium",
    "util-linux",
    "libcap2-bin",
    "mesa-vulkan-drivers",
    "libamdhip64-5",
];
/// Python packages that tests use, in `target/python`: NVTX as Python programs have it, and its C headers; readers of
/// recordings, runs and datasets.
const PYTHON: [&str; 12] = [
    "nvtx==0.2.17",
    "nvidia-nvtx-cu12==12.9.79",
    "perfetto==0.59.1",
    "protobuf==7.36.2",
    "duckdb==2.0.0",
    "polars==2.1.0",
    "polars-runtime-32==2.1.0",
    "pyarrow==26.0.1",
    "pandas==3.1.1",
    "numpy==2.4.6",
    "python-dateutil==2.9.0.post0",
    "six==1.17.0",
];
/// What compiles the kernels for AMD's GPUs.
const AMDGPU: [&str; 2] = ["clang-22", "lld-22"];
/// An emulator, a shell for its guest, what fetches and unpacks kernels, `strip`.
const VM: [&str; 9] = [
    "qemu-system-x86",
    "seabios",
    "busybox-static",
    "debian-archive-keyring",
    "dpkg",
    "kmod",
    "xz-utils",
    "zstd",
    "binutils",
];
/// For programs that need no library.
pub(crate) const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";
/// Links with LLVM 22, the version in Debian's rustc-web 1.96.
const LINKER_VERSION: &str = "0.13.0";
const DENY_VERSION: &str = "0.20.2";

pub(crate) fn run(options: &Options) -> Result<()> {
    let all = !(options.runtime || options.bpf || options.tests || options.vm);
    if all || options.runtime {
        runtime()?;
    }
    if all || options.tests {
        tests()?;
    }
    if all || options.bpf {
        bpf()?;
    }
    if options.vm {
        vm()?;
    }
    Ok(())
}

/// What `bench alloc` and `bench kernel` need where there is no GPU.
pub(crate) fn runtime() -> Result<()> {
    install(&RUNTIME)
}

/// What the tests compare with.
pub(crate) fn tests() -> Result<()> {
    install(&TESTS)?;
    python()
}

fn python() -> Result<()> {
    let folder = process::target_folder().join("python");
    let wanted = PYTHON.join(" ");
    let written = folder.join("installed");
    if std::fs::read_to_string(&written).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--root-user-action", "ignore", "--target"];
    process::run(Command::new("/usr/bin/python3").args(pip).arg(&folder).args(PYTHON))?;
    std::fs::write(written, wanted)?;
    Ok(())
}

/// What `gen` needs when the kernels for AMD's GPUs have changed.
pub(crate) fn amdgpu() -> Result<()> {
    install(&AMDGPU)
}

/// What `vmtest` needs.
pub(crate) fn vm() -> Result<()> {
    install(&VM)
}

/// What looks at licences. Unoptimized: it runs for a second, and is built in half the time.
pub(crate) fn deny() -> Result<()> {
    eprintln!("installing cargo-deny {DENY_VERSION} (two minutes and a half of CPU time)");
    process::run(cargo().args(["install", "--quiet", "cargo-deny", "--version", DENY_VERSION, "--locked", "--debug"]))
}

/// What links programs without libraries.
pub(crate) fn static_target() -> Result<()> {
    install(&["musl-tools"])?;
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "target-libdir", "--target", STATIC_TARGET])
        .output()?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists() {
        return Ok(());
    }
    if find_program("rustup").is_none() {
        bail!(
            "this Rust has no library for {STATIC_TARGET}\n  hint: Debian has it in libstd-rust-dev of that name, rustup as `rustup target add {STATIC_TARGET}`"
        );
    }
    process::run(Command::new("rustup").args(["target", "add", STATIC_TARGET]))
}

fn bpf() -> Result<()> {
    install(&BPF)?;
    if find_program("bpf-linker").is_none() {
        eprintln!("installing bpf-linker {LINKER_VERSION} (a minute and a half of CPU time)");
        process::run(
            cargo()
                .args([
                    "install",
                    "--quiet",
                    "bpf-linker",
                    "--version",
                    LINKER_VERSION,
                    "--no-default-features",
                    "--features",
                    "llvm-22",
                ])
                .env("LLVM_PREFIX", "/usr/lib/llvm-22"),
        )?;
    }
    Ok(())
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

/// Installs Debian packages that are missing; asks for nothing when none is.
fn install(packages: &[&str]) -> Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        eprintln!("this is not Debian: make sure that what corresponds to these is installed: {}", packages.join(" "));
        return Ok(());
    }
    let missing: Vec<_> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(" "));
    let apt = || {
        let mut command = as_root("env");
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]);
        command
    };
    process::run(apt().arg("update"))?;
    let mut command = apt();
    command.args(["install", "-y", "--no-install-recommends"]).args(&missing);
    process::run(command.stdout(std::process::Stdio::null()))
}
