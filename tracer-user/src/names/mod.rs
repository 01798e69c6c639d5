//! Names of system calls by architecture and number, and which kind of kernel service each is; of devices and
//! the commands of GPU drivers.

pub mod api;
pub mod devices;
mod field_tables;
pub mod fields;
#[rustfmt::skip]
mod ioctl_tables;
pub mod ioctls;
mod kfd;
pub mod nvidia_rules;
mod syscall_tables;
pub mod version;

use crate::model::roles::Role;

/// A system call of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// Its number.
    pub number: u32,
    /// Its name, as in the kernel's table.
    pub name: &'static str,
    /// Kind of kernel service: `memory`, `file-io`, `poll/wait`, …
    pub category: &'static str,
    /// What it does for GPU work.
    pub role: Role,
}

/// The calls of an architecture, by number; empty when there is no table for it.
#[must_use]
pub fn syscalls_of(architecture: &str) -> &'static [Syscall] {
    match architecture {
        "x86_64" => &syscall_tables::X86_64,
        "aarch64" => &syscall_tables::AARCH64,
        _ => &[],
    }
}

/// The calls of the machine this runs on.
#[must_use]
pub fn native_syscalls() -> &'static [Syscall] {
    syscalls_of(std::env::consts::ARCH)
}

/// The native call with this number.
#[must_use]
pub fn by_number(number: u32) -> Option<&'static Syscall> {
    let table = native_syscalls();
    table.binary_search_by_key(&number, |call| call.number).ok().map(|index| &table[index])
}

/// The native call with this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Syscall> {
    native_syscalls().iter().find(|call| call.name == name)
}

/// Words that are nearly `word`, to suggest in an error.
#[must_use]
pub fn similar<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> = among
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2 || candidate.starts_with(word) && word.len() > 2)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(3);
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Levenshtein distance, for words of a few letters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_known_numbers_are_right() {
        for architecture in ["x86_64", "aarch64"] {
            let table = syscalls_of(architecture);
            assert!(table.len() > 300, "{architecture}");
            assert!(table.windows(2).all(|pair| pair[0].number < pair[1].number), "{architecture}");
        }
        // The C library's own numbers are an independent source.
        for (name, number) in [
            ("read", libc::SYS_read),
            ("ioctl", libc::SYS_ioctl),
            ("futex", libc::SYS_futex),
            ("exit_group", libc::SYS_exit_group),
        ] {
            assert_eq!(by_name(name).unwrap().number, number as u32);
            assert_eq!(by_number(number as u32).unwrap().name, name);
        }
        assert_eq!(by_number(100_000), None);
    }

    #[test]
    fn suggests_what_was_meant() {
        assert_eq!(similar("ioctrl", ["read", "ioctl", "write"].into_iter()), ["ioctl"]);
        assert!(similar("xyzzy", ["read", "ioctl"].into_iter()).is_empty());
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
