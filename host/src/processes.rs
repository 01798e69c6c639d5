//! What `/proc` tells of processes while they run: what their threads have used, and who has a GPU open.

use std::{collections::HashSet, fs};

use crate::proc_text;

/// What a thread has used until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadUsage {
    /// Its number.
    pub thread: u32,
    /// User CPU time, nanoseconds.
    pub user_ns: u64,
    /// System CPU time, nanoseconds.
    pub system_ns: u64,
    /// Context switches.
    pub switches: u64,
}

/// Nodes of GPUs and accelerators.
const NODES: [&str; 4] = ["/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/accel/"];

/// What each thread of a process has used; empty when it is gone.
#[must_use]
pub fn thread_usages(pid: u32) -> Vec<ThreadUsage> {
    let usage = |thread: u32| {
        let folder = format!("/proc/{pid}/task/{thread}");
        let (user_ns, system_ns) = proc_text::user_and_system_ns(&proc_text::read(format!("{folder}/stat")).ok()?)?;
        let status = proc_text::read(format!("{folder}/status")).ok()?;
        let switches = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
            .iter()
            .filter_map(|key| proc_text::field(&status, key)?.parse::<u64>().ok())
            .sum();
        Some(ThreadUsage { thread, user_ns, system_ns, switches })
    };
    numbers_in(&format!("/proc/{pid}/task")).into_iter().filter_map(usage).collect()
}

/// Name of a thread as the kernel keeps it: at most 15 bytes, and zeros.
///
/// # Errors
/// What the kernel says, where there is no such thread.
pub fn name_of(thread: u32) -> std::io::Result<[u8; 16]> {
    let mut name = [0; 16];
    let text = fs::read(format!("/proc/{thread}/comm"))?;
    // Its last byte is the end of the line; a name may have others.
    for (to, from) in name[..15].iter_mut().zip(text.strip_suffix(b"\n").unwrap_or(&text)) {
        *to = *from;
    }
    Ok(name)
}

/// Whether there is such a process.
#[must_use]
pub fn is_there(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Entries of a folder that are numbers; none when it cannot be read.
#[must_use]
pub fn numbers_in(folder: &str) -> Vec<u32> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a process has a device of a GPU open.
#[must_use]
pub fn has_gpu_open(pid: u32) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        NODES.iter().any(|node| target.starts_with(node))
    })
}

/// Every process of the machine that has one open, this one left out.
#[must_use]
pub fn gpu_processes() -> HashSet<u32> {
    let us = std::process::id();
    numbers_in("/proc").into_iter().filter(|&pid| pid != us && has_gpu_open(pid)).collect()
}
