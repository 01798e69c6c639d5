//! The machine, its clocks and who runs something on it, as the header of a file has them.

use serde::{Deserialize, Serialize};

/// Readings of several clocks at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// `CLOCK_REALTIME`: since 1970.
    pub realtime_ns: u64,
    /// `CLOCK_MONOTONIC`: what the kernel side stamps with.
    pub monotonic_ns: u64,
    /// `CLOCK_BOOTTIME`: monotonic, and counting while suspended.
    pub boottime_ns: u64,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub architecture: String,
    /// Model name of the first CPU.
    pub cpu: String,
    /// CPUs this process may use.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Effective user id while tracing.
    pub id: u32,
    /// Its name, or the number again.
    pub name: String,
    /// Who called sudo, if anybody.
    pub invoked_by: Option<String>,
}
