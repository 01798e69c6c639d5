//! Where the functions of GPU libraries are (`--api`), and probes on them.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use gpuos_decode::api::{LIBRARIES, Library};
use gpuos_host::{
    environment::{self, kernel_version},
    files::open_regular,
    proc_text,
};

use super::{
    attach_point::ApiFunction,
    bpf_syscall,
    elf::{Symbols, Table},
};

/// The first Linux with probes on many functions at once.
const MANY_AT_ONCE: (u32, u32) = (6, 6);

/// Whether this kernel has probes on functions of libraries, many at once.
#[must_use]
pub fn has_uprobes() -> bool {
    kernel_version() >= MANY_AT_ONCE && fs::exists("/sys/bus/event_source/devices/uprobe").unwrap_or(false)
}

/// The functions of the GPU libraries that the dynamic linker would find, in `LD_LIBRARY_PATH` and by its cache. No two
/// stand at the same place.
///
/// # Errors
/// A library that cannot be read, with its path.
pub fn api_functions(with_launches: bool) -> Result<Vec<ApiFunction>, (PathBuf, io::Error)> {
    let cache = environment::linker_cache();
    let folders = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut found: Vec<ApiFunction> = Vec::new();
    for library in &LIBRARIES {
        let in_folders = std::env::split_paths(&folders)
            // An empty variable names no folder, in particular not the one we are in.
            .filter(|folder| !folder.as_os_str().is_empty())
            .flat_map(|folder| library.files.iter().map(move |file| folder.join(file)))
            .find(|path| path.is_file());
        let in_cache = || library.files.iter().find_map(|file| proc_text::library_path(&cache, file));
        let Some(path) = in_folders.or_else(|| in_cache().map(PathBuf::from)) else { continue };
        for function in functions_of(library, &path, with_launches).map_err(|error| (path.clone(), error))? {
            if !found.iter().any(|other| other.library == function.library && other.offset == function.offset) {
                found.push(function);
            }
        }
    }
    Ok(found)
}

fn functions_of(library: &Library, path: &Path, with_launches: bool) -> io::Result<Vec<ApiFunction>> {
    let symbols = Symbols::read(open_regular(path)?, Table::Exported)?;
    let launches = if with_launches { library.launches } else { &[] };
    let wanted = || library.functions.iter().chain(launches);
    let functions = symbols.all().filter_map(|(name, offset)| {
        let name = wanted().find(|wanted| **wanted == name)?;
        Some(ApiFunction { name, library: path.to_path_buf(), offset })
    });
    Ok(functions.collect())
}

/// Attaches a program to the entries of functions, or their returns; the index of each is the number that the program
/// gets. One link for each library: its probes go at once.
pub(super) fn attach(program: BorrowedFd<'_>, functions: &[ApiFunction], at_return: bool) -> io::Result<Vec<OwnedFd>> {
    let mut libraries: Vec<&PathBuf> = functions.iter().map(|function| &function.library).collect();
    libraries.dedup();
    let link = |library: &PathBuf| {
        let here = || (0_u64..).zip(functions).filter(|(_, function)| function.library == *library);
        let offsets: Vec<u64> = here().map(|(_, function)| function.offset).collect();
        let numbers: Vec<u64> = here().map(|(number, _)| number).collect();
        let path = CString::new(library.as_os_str().as_bytes())?;
        bpf_syscall::link_to_functions(program, &path, &offsets, &numbers, at_return)
    };
    libraries.into_iter().map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_their_exported_names() {
        // The C library of this test itself.
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let libc =
            maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc.so"));
        let libc = libc.expect("the C library");
        let library = Library { files: &[], functions: &["getppid", "no_such_function"], launches: &["getpid"] };
        let names = |with_launches| {
            let functions = functions_of(&library, Path::new(libc), with_launches).unwrap();
            functions.into_iter().map(|function| function.name).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["getppid"]);
        assert_eq!(names(true).len(), 2);
        assert!(functions_of(&library, Path::new("/proc/version"), false).is_err());
    }
}
