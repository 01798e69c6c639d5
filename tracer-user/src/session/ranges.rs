//! NVTX and roctx ranges as phases: the library that turns them into markers, and how a command is made to load it.

use std::{
    env,
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// File name of the library, which the crate `gpuos-nvtx` builds.
const LIBRARY: &str = "libgpuos_nvtx.so";

/// Why ranges cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum RangesError {
    /// The library is not there.
    #[error(
        "cannot find {LIBRARY}, which turns NVTX and roctx ranges into phases; looked in {0}\nhint: `cargo build --release -p gpuos-nvtx` makes it; copy it from target/release to the folder of gpuos-trace"
    )]
    NoLibrary(String),
    /// `LD_PRELOAD` separates by these.
    #[error(
        "`{0}` has a blank or a colon in its path, which `LD_PRELOAD` cannot hold\nhint: copy gpuos-trace and {LIBRARY} to another folder"
    )]
    Unloadable(String),
}

/// The library, beside this program or in the folder `lib` beside its own.
fn library() -> Result<PathBuf, RangesError> {
    let program = env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new("."));
    let places = [folder.to_owned(), folder.join("../lib")];
    let found = places.iter().map(|place| place.join(LIBRARY)).find_map(|path| path.canonicalize().ok());
    found.ok_or_else(|| RangesError::NoLibrary(places.map(|place| place.display().to_string()).join(" and ")))
}

/// What the command's environment must have.
///
/// # Errors
/// [`RangesError`].
pub fn variables(nvtx: bool, roctx: bool) -> Result<Vec<(&'static str, OsString)>, RangesError> {
    if !nvtx && !roctx {
        return Ok(Vec::new());
    }
    let library = library()?;
    let mut variables = Vec::new();
    if nvtx {
        variables.push(("NVTX_INJECTION64_PATH", library.clone().into_os_string()));
    }
    if roctx {
        if library.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':')) {
            return Err(RangesError::Unloadable(library.display().to_string()));
        }
        let mut preload = library.into_os_string();
        if let Some(others) = env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
            preload.push(":");
            preload.push(others);
        }
        variables.push(("LD_PRELOAD", preload));
    }
    Ok(variables)
}
