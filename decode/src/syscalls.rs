//! System calls by architecture, number and name.

pub use crate::tables::Syscall;
use crate::tables::syscalls as tables;

/// The calls of an architecture, by number; empty when there is no table for it.
#[must_use]
pub fn syscalls_of(architecture: &str) -> &'static [Syscall] {
    match architecture {
        "x86_64" => &tables::X86_64,
        "aarch64" => &tables::AARCH64,
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
}
