//! The machine, the user and the clocks, for the header of a run.

use std::{fs, sync::LazyLock};

use gpuos_model::machine::{Clocks, Host, User};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::{Uid, User as Account},
};

use crate::proc_text;

fn reading(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// A clock of the machine in nanoseconds, as the kernel side reads it: in a time namespace those that a program sees are
/// shifted.
fn of_the_machine(clock: ClockId, name: &str) -> u64 {
    // A process stays in its time namespace.
    static OFFSETS: LazyLock<String> =
        LazyLock::new(|| fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default());
    reading(clock).wrapping_sub(proc_text::namespace_offset(&OFFSETS, name))
}

/// `CLOCK_MONOTONIC` of the machine in nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    of_the_machine(ClockId::CLOCK_MONOTONIC, "monotonic")
}

/// All clocks now.
#[must_use]
pub fn clocks() -> Clocks {
    Clocks {
        realtime_ns: reading(ClockId::CLOCK_REALTIME),
        monotonic_ns: monotonic_ns(),
        boottime_ns: of_the_machine(ClockId::CLOCK_BOOTTIME, "boottime"),
    }
}

/// Whether processes have other numbers here than in the kernel: the initial pid namespace has a fixed inode
/// (`PROC_PID_INIT_INO` in the kernel's `proc_ns.h`).
#[must_use]
pub fn in_pid_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() != "pid:[4026531836]")
}

/// The release of the running kernel, empty when it does not say.
#[must_use]
pub fn kernel_release() -> String {
    // uname lies to programs of some personalities; gVisor has nothing else.
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(
        |_| {
            let names = nix::sys::utsname::uname().ok();
            names.map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default()
        },
        |release| release.trim_end().to_owned(),
    )
}

/// Major and minor version of the running kernel, (0, 0) when it does not say.
#[must_use]
pub fn kernel_version() -> (u32, u32) {
    proc_text::version(&kernel_release())
}

/// Whether the kernel is gVisor's: its log, which everybody may read there, begins with these words.
#[must_use]
pub fn is_gvisor() -> bool {
    /// `SYSLOG_ACTION_READ_ALL` of `linux/syslog.h`.
    const READ_ALL: libc::c_int = 3;
    let mut log = vec![0_u8; 4096];
    // SAFETY: at most as many bytes are written as there are.
    let length = unsafe { libc::klogctl(READ_ALL, log.as_mut_ptr().cast(), log.len() as libc::c_int) };
    log.truncate(usize::try_from(length).unwrap_or(0));
    String::from_utf8_lossy(&log).contains("Starting gVisor")
}

/// This machine. What it does not tell is left empty.
#[must_use]
pub fn host() -> Host {
    let names = nix::sys::utsname::uname().ok();
    let text = |value: Option<&std::ffi::OsStr>| value.unwrap_or_default().to_string_lossy().into_owned();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Host {
        name: text(names.as_ref().map(nix::sys::utsname::UtsName::nodename)),
        kernel: kernel_release(),
        architecture: text(names.as_ref().map(nix::sys::utsname::UtsName::machine)),
        cpu: proc_text::field(&processor, "model name").unwrap_or_default().to_owned(),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: proc_text::memory_bytes(&memory).unwrap_or(0),
    }
}

/// Who runs this.
#[must_use]
pub fn user() -> User {
    let id = Uid::effective();
    let name = Account::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |account| account.name);
    User { id: id.as_raw(), name, invoked_by: std::env::var("SUDO_USER").ok() }
}

/// Where the dynamic linker finds libraries, as `ldconfig -p` prints it; empty where there is none. The cache, not dlopen:
/// loading a GPU runtime starts threads and makes device nodes.
#[must_use]
pub fn linker_cache() -> String {
    std::process::Command::new("ldconfig")
        .arg("-p")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let host = host();
        assert!(!host.kernel.is_empty() && host.memory_bytes > 1 << 20 && host.cpus > 0);
        assert!(clocks().realtime_ns > 1_600_000_000_000_000_000);
    }
}
