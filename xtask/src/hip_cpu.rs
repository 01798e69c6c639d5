//! `cargo xtask hip-cpu`: AMD's header-only HIP for CPUs as a library that `bench --backend hip-cpu` loads.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, find_program, root};

/// Where the project ROCm/HIP-CPU is unpacked.
const ROOT: &str = "HIP_CPU_ROOT";
const LIBRARY: &str = "libgpuos_hip_cpu.so";

/// Compiles `workloads/hip-cpu/shim.cpp` and puts the library beside `bench`, where that looks for it.
pub(crate) fn build() -> Result<()> {
    let Some(sources) = std::env::var_os(ROOT).map(PathBuf::from) else {
        bail!(
            "{ROOT} is not set\nhint: get the project ROCm/HIP-CPU from GitHub (nothing of it is here), then `{ROOT}=FOLDER cargo xtask hip-cpu`"
        );
    };
    let headers = sources.join("include");
    if !headers.join("hip/hip_runtime.h").exists() || !sources.join("src/include").exists() {
        bail!(
            "{} has no include/hip/hip_runtime.h with src/include beside it\nhint: {ROOT} is the project's own folder",
            sources.display()
        );
    }
    if find_program("g++").is_none() {
        bail!("no g++ here\nhint: `sudo apt-get install g++`");
    }
    let folder = process::target_folder().join("release");
    fs::create_dir_all(&folder)?;
    let library = folder.join(LIBRARY);
    // Without TBB, so that kernels run on the threads that the program made and counts repeat.
    let options = [
        "-std=c++17",
        "-O2",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        "-pthread",
        "-D_GLIBCXX_USE_TBB_PAR_BACKEND=0",
    ];
    let mut command = Command::new("g++");
    command.args(options).arg("-isystem").arg(headers).arg(root().join("workloads/hip-cpu/shim.cpp"));
    process::run(command.arg("-o").arg(&library))?;
    let debug = process::target_folder().join("debug");
    if debug.exists() {
        fs::copy(&library, debug.join(LIBRARY)).with_context(|| format!("cannot write to {}", debug.display()))?;
    }
    eprintln!("wrote {}", library.display());
    Ok(())
}
