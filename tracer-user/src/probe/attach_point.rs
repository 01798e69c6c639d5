//! What BPF programs are attached to.

use std::path::PathBuf;

/// What a program is attached to.
#[derive(Clone, Debug)]
pub(super) enum AttachPoint {
    /// A BTF tracepoint, by its type id.
    Typed(u32),
    /// A raw tracepoint, by its name.
    Raw(&'static str),
    /// Perf's tracepoints, by their numbers.
    Points(Vec<u64>),
    /// The entry of a function, or its return.
    Function { name: &'static str, at_return: bool },
    /// The entries of functions of libraries, or their returns; the index of each is the number that the program gets.
    Library { functions: Vec<ApiFunction>, at_return: bool },
}

/// A function in a library on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiFunction {
    /// Its name.
    pub name: &'static str,
    /// The library.
    pub library: PathBuf,
    /// Where it stands in the file.
    pub offset: u64,
}
