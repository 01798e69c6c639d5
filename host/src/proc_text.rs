//! Text of `/proc` and `/sys`: parsers without side effects, for every room that reads such a file.

use std::{fs, io, path::Path};

use gpuos_model::Usage;

/// Reads a file. The name of a command, which may be any bytes, is in some of them.
///
/// # Errors
/// What the kernel says.
pub fn read(path: impl AsRef<Path>) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The value after `key:` in a file of `key: value` lines.
#[must_use]
pub fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// Bytes of memory from `/proc/meminfo`.
#[must_use]
pub fn memory_bytes(meminfo: &str) -> Option<u64> {
    let kibibytes: u64 = field(meminfo, "MemTotal")?.strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// Nanoseconds by which a time namespace shifts a clock, from `/proc/PID/timens_offsets`: lines of clock,
/// seconds, nanoseconds.
#[must_use]
pub fn namespace_offset(offsets: &str, clock: &str) -> u64 {
    offsets
        .lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let found = words.next()? == clock;
            let (seconds, nanoseconds): (i64, i64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            found.then(|| (seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)) as u64)
        })
        .unwrap_or(0)
}

/// A field of `/proc/PID/stat`, counted from 1 as in `proc(5)`; the second, a name in brackets, may hold blanks.
#[must_use]
pub fn stat_field(stat: &str, field: usize) -> Option<&str> {
    stat.rsplit_once(") ")?.1.split_whitespace().nth(field.checked_sub(3)?)
}

/// The letter of a process's state, from `/proc/PID/stat`.
#[must_use]
pub fn state(stat: &str) -> Option<char> {
    stat_field(stat, 3)?.chars().next()
}

/// What a thread has used, from its `status`, `stat` and `schedstat`: user and system time are left at 0, the nanoseconds
/// that it ran stand beside.
#[must_use]
pub fn usage(status: &str, stat: &str, schedstat: &str) -> Option<(Usage, u64)> {
    let of_stat = |number| stat_field(stat, number)?.parse().ok();
    let usage = Usage {
        voluntary_switches: field(status, "voluntary_ctxt_switches")?.parse().ok()?,
        involuntary_switches: field(status, "nonvoluntary_ctxt_switches")?.parse().ok()?,
        minor_faults: of_stat(10)?,
        major_faults: of_stat(12)?,
        user_ns: 0,
        system_ns: 0,
    };
    Some((usage, schedstat.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)))
}

/// User and system time over a thread's life from its `stat`, in nanoseconds to a hundredth of a second
/// (`USER_HZ`).
#[must_use]
pub fn user_and_system_ns(stat: &str) -> Option<(u64, u64)> {
    let of_stat = |number| Some(stat_field(stat, number)?.parse::<u64>().ok()?.saturating_mul(10_000_000));
    Some((of_stat(14)?, of_stat(15)?))
}

/// Major and minor version of a kernel from its release, (0, 0) when it does not say.
#[must_use]
pub fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Effective capabilities as bits, from `/proc/PID/status`.
#[must_use]
pub fn capabilities(status: &str) -> Option<u64> {
    u64::from_str_radix(field(status, "CapEff")?, 16).ok()
}

/// The soft limit of locked memory from `/proc/PID/limits`.
#[must_use]
pub fn locked_memory(limits: &str) -> Option<&str> {
    limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?.split_whitespace().next()
}

/// The mode in brackets of `/sys/kernel/security/lockdown`.
#[must_use]
pub fn lockdown_mode(text: &str) -> Option<&str> {
    text.split(['[', ']']).nth(1)
}

/// Where a library is, from what `ldconfig -p` prints.
#[must_use]
pub fn library_path<'a>(cache: &'a str, name: &str) -> Option<&'a str> {
    let of_name = |line: &&str| line.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
    let line = cache.lines().find(of_name)?;
    Some(line.rsplit(" => ").next().unwrap_or(line).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_behind_a_name_with_blanks() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 101 0 12 0 33 44 0 0 20 0 1 0 9";
        let fields = [10, 12, 14, 15].map(|field| stat_field(stat, field).unwrap());
        assert_eq!(fields, ["101", "12", "33", "44"]);
        assert_eq!(state(stat), Some('S'));
        assert_eq!(user_and_system_ns(stat), Some((330_000_000, 440_000_000)));
        assert_eq!(stat_field("", 10), None);
    }

    #[test]
    fn reads_colon_separated_fields() {
        let text = "processor\t: 0\nmodel name\t: A: B\n\nMemTotal:  24 kB\n";
        assert_eq!(field(text, "model name").unwrap(), "A: B");
        assert_eq!(field(text, "model"), None);
        assert_eq!(memory_bytes(text), Some(24 * 1024));
    }

    #[test]
    fn reads_offsets_of_a_time_namespace() {
        let text = "monotonic  -1  5\nboottime   100000   7\n";
        assert_eq!(namespace_offset(text, "monotonic") as i64, -999_999_995);
        assert_eq!(namespace_offset(text, "boottime"), 100_000_000_000_007);
        assert_eq!(namespace_offset("", "monotonic"), 0);
    }

    #[test]
    fn reads_what_check_asks() {
        assert_eq!(version("6.12.0-1-amd64"), (6, 12));
        assert_eq!(version("odd"), (0, 0));
        assert_eq!(capabilities("Name:\ta\nCapEff:\t000001ffffffffff\n"), Some((1 << 41) - 1));
        assert_eq!(locked_memory("Max locked memory         8388608   unlimited   bytes"), Some("8388608"));
        assert_eq!(lockdown_mode("none [integrity] confidentiality"), Some("integrity"));
        let cache = "\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/libcuda.so.1\n";
        assert_eq!(library_path(cache, "libcuda.so.1"), Some("/usr/lib/libcuda.so.1"));
        assert_eq!(library_path(cache, "libcuda.so"), None);
    }
}
