//! Why the BPF side could not be set up, in words for the person who typed the command.

use std::{fs, io};

use gpuos_host::environment::kernel_version;

use super::{bpf_syscall::Refusal, kernel_btf::BtfError};
use gpuos_host::proc_text;

/// Failure to load or attach the BPF programs.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The process may not use BPF.
    #[error("this process may not load BPF programs ({what}: {errno})\n{hint}")]
    NotPermitted {
        /// The step that was refused.
        what: &'static str,
        /// The kernel's word.
        errno: io::Error,
        /// What to type next.
        hint: String,
    },
    /// Tasks must be followed by number, and have other numbers here.
    #[error(
        "on this kernel tracing works from outside of containers only: processes have other numbers in here\nhint: run it on the host; Linux 5.15 to 6.19 can be traced from inside"
    )]
    InContainer,
    /// The kernel's tracepoints cannot be found.
    #[error(
        "this kernel can be traced through the tracepoints of its trace file system only, and this user may not see them\nhint: run it as root; Linux 5.15 to 6.19 can be traced without"
    )]
    NoTracepoints,
    /// A tracepoint that a recording wants.
    #[error(
        "this kernel has no tracepoint `{0}`\nhint: record without `{option}`", option = if *.0 == "sched_switch" { "--sched" } else { "--faults" }
    )]
    NoSuchTracepoint(&'static str),
    /// The kernel shows no type information.
    #[error(
        "this kernel shows no type information, and without it only root outside of containers can trace: {0}\n\
         hint: run it as root there, or boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (`ls {path}` shows whether it is); \
         the kernels of the large distributions are", path = super::kernel_btf::VMLINUX
    )]
    NoTypeInformation(String),
    /// The kernel's structures are not as we know them.
    #[error(
        "this kernel's structures are not as gpuos-trace knows them: {0}\nhint: please report it with the output of `uname -a`"
    )]
    UnknownKernel(#[source] BtfError),
    /// A setuid file: what its caller may see is not known.
    #[error(
        "this gpuos-trace is a setuid or setgid program, and does not trace so\nhint: take that bit away (`chmod u-s,g-s`); `setcap cap_bpf,cap_perfmon=ep` gives it what it needs"
    )]
    OfAnotherUser,
    /// Rights from the file, on a kernel that does not show the rights of tasks.
    #[error(
        "this gpuos-trace has its rights from its file, and without type information of the kernel it cannot tell what you could ptrace\nhint: run it through sudo"
    )]
    NoCredentials,
    /// The object was built for another version of the contract.
    #[error(
        "the BPF object is for ABI version {}, this program for {}\n\
         hint: rebuild it with `cargo xtask build-ebpf`, then build gpuos-trace again",
        found.map_or_else(|| "unknown".to_owned(), |v| v.to_string()),
        gpuos_tracer_abi::ABI_VERSION
    )]
    ForeignObject {
        /// What the object says, if anything.
        found: Option<u32>,
    },
    /// The kernel refused a program.
    #[error(
        "the kernel refused the BPF program `{program}`: {reason}\nhint: this should not happen on Linux 5.10 and later; please report it with the output of `uname -a`"
    )]
    Refused {
        /// Which program.
        program: String,
        /// The error and the verifier's last line.
        reason: String,
    },
    /// Anything else from aya or the kernel.
    #[error("cannot set up the BPF side: {what}: {reason}")]
    Other {
        /// The step.
        what: &'static str,
        /// The chain of causes.
        reason: String,
    },
}

/// The chain of causes in one line: aya's `Display` leaves the kernel's error number out.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// The kernel's error number somewhere in the chain of causes.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        cause = error.source();
    }
    None
}

/// The verifier's last words, without the statistics that follow them.
fn last_line(log: &str) -> &str {
    let statistics = ["processed ", "stack depth ", "verification time "];
    log.lines()
        .rev()
        .find(|line| !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start)))
        .unwrap_or("no verifier log")
}

fn permission_hint(what: &str) -> String {
    if LoadError::has_capabilities() {
        let limited = (what == CREATING_MAPS).then(memory_limit_hint).flatten();
        return limited.unwrap_or_else(|| refused_with_capabilities().to_owned());
    }
    let this = std::env::current_exe().map_or_else(|_| "gpuos-trace".to_owned(), |path| path.display().to_string());
    format!(
        "hint: it needs CAP_BPF and CAP_PERFMON: run it through sudo, or once `sudo chgrp GROUP {this}; sudo chmod 0750 {this}; sudo setcap cap_bpf,cap_perfmon=ep {this}` for the members of a group"
    )
}

/// Whether this process is in another user namespace than the kernel's first: its capabilities do not count for BPF.
pub fn is_in_user_namespace() -> bool {
    // `USER_NS_INIT_INO` of linux/nsfs.h, 0xEFFFFFFD.
    fs::read_link("/proc/self/ns/user").is_ok_and(|link| link.as_os_str() != "user:[4026531837]")
}

/// What may be in the way of one that has the capabilities.
fn refused_with_capabilities() -> &'static str {
    let status = proc_text::read("/proc/self/status").unwrap_or_default();
    if is_in_user_namespace() {
        "hint: the capabilities of a user namespace do not count for this: run it outside of the rootless container"
    } else if proc_text::field(&status, "Seccomp") == Some("2") {
        "hint: a seccomp filter, of a container usually, is in the way: allow `bpf` and `perf_event_open` in its profile"
    } else if nix::unistd::Uid::effective().is_root() {
        "hint: root may not do it: a security module or a locked-down kernel is in the way; `gpuos-trace check` tells more"
    } else {
        "hint: this kernel wants root for that: run it through sudo"
    }
}

/// The step in which the kernel looks at the limit of locked memory.
pub(super) const CREATING_MAPS: &str = "creating the maps";

/// Before Linux 5.11 a map beyond the limit of locked memory is refused with the same error as one that nobody may
/// make: it is the limit when the capabilities are there.
fn memory_limit_hint() -> Option<String> {
    if kernel_version() >= (5, 11) {
        return None;
    }
    let limits = proc_text::read("/proc/self/limits").unwrap_or_default();
    Some(format!(
        "hint: this kernel counts BPF maps as locked memory, of which this process may have {} bytes: raise the limit (`sudo prlimit --memlock=unlimited --pid $$`)",
        proc_text::locked_memory(&limits).unwrap_or("few")
    ))
}

impl LoadError {
    /// Whether this process holds `CAP_BPF` and `CAP_PERFMON`.
    pub(super) fn has_capabilities() -> bool {
        // Numbers of `linux/capability.h`.
        const ENOUGH: u64 = 1 << 38 | 1 << 39;
        let status = proc_text::read("/proc/self/status").unwrap_or_default();
        proc_text::capabilities(&status).unwrap_or(0) & ENOUGH == ENOUGH
    }

    /// Sorts an error of a step into a refusal or something else.
    pub(super) fn from_step(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        match errno(error) {
            Some(number @ (libc::EPERM | libc::EACCES)) => {
                Self::NotPermitted { what, errno: io::Error::from_raw_os_error(number), hint: permission_hint(what) }
            }
            Some(libc::EMFILE | libc::ENFILE) => {
                Self::Other { what, reason: format!("{}\nhint: raise the limit: `ulimit -n 1024`", chain(error)) }
            }
            _ => Self::Other { what, reason: chain(error) },
        }
    }

    /// The object lacks a program.
    pub(super) fn no_program(name: &str) -> Self {
        Self::Refused { program: name.to_owned(), reason: "the object has no such program".to_owned() }
    }

    /// Likewise for a program, where the verifier may have said more.
    #[expect(clippy::needless_pass_by_value, reason = "it becomes the error")]
    pub(super) fn from_refusal(program: &str, refusal: Refusal) -> Self {
        // The verifier also answers EACCES; only an empty log means a missing capability.
        if refusal.log.trim().is_empty() || matches!(refusal.error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
            return Self::from_step("loading a program", &refusal.error);
        }
        Self::Refused { program: program.to_owned(), reason: format!("{}: {}", refusal.error, last_line(&refusal.log)) }
    }
}
