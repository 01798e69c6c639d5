//! Libraries that a command is made to load: one turns NVTX and roctx ranges into markers, one makes jobs of what it launches.

use std::{
    env,
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// A library of the project.
#[derive(Clone, Copy, Debug)]
struct Library {
    /// Its file.
    file: &'static str,
    /// What it does.
    purpose: &'static str,
    /// The package that builds it.
    package: &'static str,
}

const RANGES: Library =
    Library { file: "libgpuos_nvtx.so", purpose: "turns NVTX and roctx ranges into phases", package: "gpuos-nvtx" };
const JOBS: Library = Library {
    file: "libgpuos_job_preload.so",
    purpose: "makes jobs of what a program launches",
    package: "gpuos-job-preload",
};

/// What a command is to load.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// NVTX ranges as phases.
    pub nvtx: bool,
    /// roctx ranges as phases.
    pub roctx: bool,
    /// The value of `GPUOS_JOBS` for the interposer; where it is empty, that is not preloaded.
    pub jobs: String,
}

/// Why a command cannot be made to load a library.
#[derive(Debug, thiserror::Error)]
pub enum InjectedError {
    /// The library is not there.
    #[error(
        "cannot find {file}, which {purpose}; looked in {places}\nhint: `cargo build --release -p {package}` makes it; copy it from target/release to the folder of gpuos-trace"
    )]
    NoLibrary {
        /// Its file.
        file: &'static str,
        /// What it does.
        purpose: &'static str,
        /// The package that builds it.
        package: &'static str,
        /// Where it was looked for.
        places: String,
    },
    /// `LD_PRELOAD` separates by these.
    #[error(
        "`{0}` has a blank or a colon in its path, which `LD_PRELOAD` cannot hold\nhint: copy gpuos-trace and its libraries to another folder"
    )]
    Unloadable(String),
}

impl Library {
    /// Beside this program, or in the folder `lib` beside its own.
    fn find(self) -> Result<PathBuf, InjectedError> {
        let Self { file, purpose, package } = self;
        let program = env::current_exe().unwrap_or_default();
        let folder = program.parent().unwrap_or(Path::new("."));
        let places = [folder.to_owned(), folder.join("../lib")];
        let found = places.iter().map(|place| place.join(file)).find_map(|path| path.canonicalize().ok());
        found.ok_or_else(|| {
            let places = places.map(|place| place.display().to_string()).join(" and ");
            InjectedError::NoLibrary { file, purpose, package, places }
        })
    }
}

/// What the command's environment must have.
///
/// # Errors
/// [`InjectedError`].
pub fn variables(wanted: Wanted) -> Result<Vec<(&'static str, OsString)>, InjectedError> {
    let mut variables = Vec::new();
    let mut preloaded = Vec::new();
    if wanted.nvtx || wanted.roctx {
        let library = RANGES.find()?;
        if wanted.nvtx {
            variables.push(("NVTX_INJECTION64_PATH", library.clone().into_os_string()));
        }
        if wanted.roctx {
            preloaded.push(library);
        }
    }
    if !wanted.jobs.is_empty() {
        preloaded.push(JOBS.find()?);
        variables.push(("GPUOS_JOBS", wanted.jobs.into()));
    }
    if let Some(library) =
        preloaded.iter().find(|path| path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':')))
    {
        return Err(InjectedError::Unloadable(library.display().to_string()));
    }
    if !preloaded.is_empty() {
        let others = env::var_os("LD_PRELOAD").filter(|others| !others.is_empty());
        let all: Vec<OsString> = preloaded.into_iter().map(PathBuf::into_os_string).chain(others).collect();
        variables.push(("LD_PRELOAD", all.join(std::ffi::OsStr::new(":"))));
    }
    Ok(variables)
}
