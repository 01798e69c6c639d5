//! What the arguments of system calls are, and how a call is written as people who read traces write it: descriptors, flags by
//! name, sizes, addresses. Of each call the first four arguments, as recordings have them.
//!
//! Signatures are those of the manual pages of Linux; values of flags are those of the `libc` crate for this architecture.

use std::{collections::HashMap, sync::LazyLock};

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A descriptor.
    Fd,
    /// A descriptor of a folder, or `AT_FDCWD`.
    Folder,
    /// The address of a path.
    Path,
    /// Another address.
    Address,
    /// A number with a sign.
    Signed,
    /// A place in a file: a number of 64 bits with a sign.
    Offset,
    /// A number without one: a size, a count.
    Unsigned,
    /// Rights of a file, octal.
    Mode,
    /// A signal.
    Signal,
    /// Bits with names.
    Flags(Names),
    /// One of some values.
    One(Names),
    /// How a file is opened: one of three values, and bits.
    Open,
    /// What a futex call does: a value, and bits.
    Futex,
    /// Bits of `clone`, and a signal below them.
    Clone,
    /// A kind of socket, and bits.
    SocketKind,
}

/// Values with their names.
type Names = &'static [(u64, &'static str)];

/// Numbers of the kernel, and those that `libc` does not have for every C library.
mod linux {
    pub(super) use libc::*;

    /// Of `asm-generic/mman-common.h`.
    pub(super) const MADV_COLLAPSE: libc::c_int = 25;
}

macro_rules! names {
    ($($name:ident)*) => {
        &[$((linux::$name as u64, stringify!($name)),)*]
    };
}

const OPEN: Names = names! {
    O_TMPFILE O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_SYNC O_DSYNC O_DIRECT O_DIRECTORY O_NOFOLLOW O_NOATIME O_CLOEXEC
    O_PATH O_ASYNC
};
const PROTECTION: Names = names! { PROT_READ PROT_WRITE PROT_EXEC PROT_GROWSDOWN PROT_GROWSUP };
const MAP: Names = names! {
    MAP_SHARED_VALIDATE MAP_SHARED MAP_PRIVATE MAP_FIXED_NOREPLACE MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_DENYWRITE MAP_EXECUTABLE MAP_LOCKED MAP_NORESERVE
    MAP_POPULATE MAP_NONBLOCK MAP_STACK MAP_HUGETLB
};
const ADVICE: Names = names! {
    MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_REMOVE MADV_DONTFORK MADV_DOFORK
    MADV_MERGEABLE MADV_UNMERGEABLE MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP MADV_DODUMP MADV_WIPEONFORK MADV_KEEPONFORK
    MADV_COLLAPSE MADV_COLD MADV_PAGEOUT MADV_POPULATE_READ MADV_POPULATE_WRITE MADV_HWPOISON MADV_SOFT_OFFLINE
};
const FUTEX: Names = names! {
    FUTEX_WAIT FUTEX_WAKE FUTEX_FD FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI FUTEX_UNLOCK_PI FUTEX_TRYLOCK_PI
    FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET FUTEX_WAIT_REQUEUE_PI FUTEX_CMP_REQUEUE_PI FUTEX_LOCK_PI2
};
const FUTEX_FLAGS: Names = names! { FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME };
const CLONE: Names = names! {
    CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PIDFD CLONE_PTRACE CLONE_VFORK CLONE_PARENT CLONE_THREAD CLONE_NEWNS
    CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_UNTRACED CLONE_CHILD_SETTID CLONE_NEWCGROUP
    CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_IO
};
const EPOLL: Names = names! { EPOLL_CLOEXEC };
const EPOLL_OPERATION: Names = names! { EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD };
const EVENTFD: Names = names! { EFD_CLOEXEC EFD_NONBLOCK EFD_SEMAPHORE };
const WHENCE: Names = names! { SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE };
const CLOCK: Names = names! {
    CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW CLOCK_REALTIME_COARSE
    CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_REALTIME_ALARM CLOCK_BOOTTIME_ALARM CLOCK_TAI
};
const TIMER: Names = names! { TIMER_ABSTIME };
const FCNTL: Names = names! {
    F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS
};
const AT: Names = names! {
    AT_SYMLINK_NOFOLLOW AT_REMOVEDIR AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH
};
/// The bit of `AT_REMOVEDIR` means another thing to `faccessat2`.
const ACCESS_AT: Names = names! { AT_SYMLINK_NOFOLLOW AT_EACCESS AT_EMPTY_PATH };
const DESCRIPTOR: Names = names! { FD_CLOEXEC };
const SOCKET_KIND: Names = names! {
    SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET
};
const SOCKET_FLAGS: Names = names! { SOCK_CLOEXEC SOCK_NONBLOCK };
const TIMERFD: Names = names! { TFD_CLOEXEC TFD_NONBLOCK };
const LOCK: Names = names! { LOCK_SH LOCK_EX LOCK_NB LOCK_UN };
const ACCESS: Names = names! { R_OK W_OK X_OK };
const PIPE: Names = names! { O_CLOEXEC O_NONBLOCK O_DIRECT };
const MEMFD: Names = names! { MFD_CLOEXEC MFD_ALLOW_SEALING MFD_HUGETLB };
const SOCKET_FAMILY: Names = names! { AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_VSOCK };
const MREMAP: Names = names! { MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP };
const MLOCK: Names = names! { MCL_CURRENT MCL_FUTURE MCL_ONFAULT };
const HOW: Names = names! { SIG_BLOCK SIG_UNBLOCK SIG_SETMASK };
const MESSAGE: Names = names! { MSG_PEEK MSG_TRUNC MSG_DONTWAIT MSG_NOSIGNAL MSG_WAITALL MSG_CMSG_CLOEXEC MSG_MORE };
const RESOURCE: Names = names! {
    RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE RLIMIT_MEMLOCK RLIMIT_AS
    RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME
};
const PROCESS_OPTION: Names = names! {
    PR_SET_PDEATHSIG PR_GET_DUMPABLE PR_SET_DUMPABLE PR_SET_NAME PR_GET_NAME PR_SET_SECCOMP PR_SET_TIMERSLACK PR_GET_TIMERSLACK
    PR_SET_PTRACER PR_SET_CHILD_SUBREAPER PR_SET_NO_NEW_PRIVS PR_SET_THP_DISABLE PR_SET_VMA PR_CAPBSET_READ PR_CAP_AMBIENT
};
const RANDOM: Names = names! { GRND_NONBLOCK GRND_RANDOM };
const WAIT: Names = names! { WNOHANG WUNTRACED WCONTINUED WEXITED WNOWAIT };

/// A call to a line: its name, and what its arguments are.
const SIGNATURES: &str = include_str!("../data/signatures.txt");

fn kind(word: &str) -> Option<Kind> {
    Some(match word {
        "fd" => Kind::Fd,
        "folder" => Kind::Folder,
        "path" => Kind::Path,
        "address" => Kind::Address,
        "signed" => Kind::Signed,
        "offset" => Kind::Offset,
        "unsigned" => Kind::Unsigned,
        "mode" => Kind::Mode,
        "signal" => Kind::Signal,
        "open" => Kind::Open,
        "futex" => Kind::Futex,
        "clone" => Kind::Clone,
        "protection" => Kind::Flags(PROTECTION),
        "map" => Kind::Flags(MAP),
        "epoll" => Kind::Flags(EPOLL),
        "eventfd" => Kind::Flags(EVENTFD),
        "timer" => Kind::Flags(TIMER),
        "at" => Kind::Flags(AT),
        "access_at" => Kind::Flags(ACCESS_AT),
        "socket_kind" => Kind::SocketKind,
        "socket_flags" => Kind::Flags(SOCKET_FLAGS),
        "timerfd" => Kind::Flags(TIMERFD),
        "lock" => Kind::Flags(LOCK),
        "access" => Kind::Flags(ACCESS),
        "pipe" => Kind::Flags(PIPE),
        "memfd" => Kind::Flags(MEMFD),
        "mremap" => Kind::Flags(MREMAP),
        "mlock" => Kind::Flags(MLOCK),
        "message" => Kind::Flags(MESSAGE),
        "random" => Kind::Flags(RANDOM),
        "wait" => Kind::Flags(WAIT),
        "advice" => Kind::One(ADVICE),
        "epoll_operation" => Kind::One(EPOLL_OPERATION),
        "whence" => Kind::One(WHENCE),
        "clock" => Kind::One(CLOCK),
        "fcntl" => Kind::One(FCNTL),
        "family" => Kind::One(SOCKET_FAMILY),
        "how" => Kind::One(HOW),
        "resource" => Kind::One(RESOURCE),
        "process_option" => Kind::One(PROCESS_OPTION),
        _ => return None,
    })
}

static CALLS: LazyLock<HashMap<&'static str, Vec<Kind>>> = LazyLock::new(|| {
    let lines = SIGNATURES.lines().filter_map(|line| line.split_once(' ').or(Some((line, ""))));
    let of = |(name, words): (&'static str, &'static str)| (name, words.split(' ').filter_map(kind).collect());
    lines.filter(|(name, _)| *name != "#").map(of).collect()
});

/// What the arguments of a call are, the first four at most; `None` for a call of which that is not known.
#[must_use]
pub fn signature(syscall: &str) -> Option<&'static [Kind]> {
    CALLS.get(syscall).map(Vec::as_slice)
}

/// Which argument of a call is the address of its path, from 0; `None` where none of the first four is.
#[must_use]
pub fn path_argument(syscall: &str) -> Option<usize> {
    signature(syscall)?.iter().position(|kind| *kind == Kind::Path)
}

/// Bits with names, the rest as a number; `none` where there is nothing.
fn flags(value: u64, names: Names, none: &str) -> String {
    let (mut rest, mut text) = (value, String::new());
    let add = |text: &mut String, name: &str| {
        if !text.is_empty() {
            text.push('|');
        }
        text.push_str(name);
    };
    for (bits, name) in names {
        if *bits != 0 && rest & bits == *bits {
            rest &= !bits;
            add(&mut text, name);
        }
    }
    if rest != 0 {
        add(&mut text, &format!("{rest:#x}"));
    }
    if text.is_empty() { none.to_owned() } else { text }
}

fn one(value: u64, names: Names) -> String {
    names.iter().find(|(known, _)| *known == value).map_or_else(|| value.to_string(), |(_, name)| (*name).to_owned())
}

/// Name of a signal; its number where it has none.
fn signal(number: u64) -> String {
    const NAMES: Names = names! {
        SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT
        SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS
    };
    one(number, NAMES)
}

/// The arguments of a call as text. `path`: what stands at the address of its path, in quotes, where that was read. `fd`: what a descriptor
/// is, where that is known.
#[must_use]
pub fn text(syscall: &str, values: [u64; 4], path: Option<&str>, fd: impl Fn(i32) -> Option<String>) -> String {
    let Some(kinds) = signature(syscall) else {
        return values.map(|value| format!("{value:#x}")).join(", ") + ", …";
    };
    let mut text = String::new();
    for (place, (kind, value)) in kinds.iter().zip(values).enumerate() {
        // What these take depends on what they are to do; the rest of the registers means nothing.
        if place == 2 && syscall == "fcntl" {
            match values[1] as i32 {
                libc::F_GETFD | libc::F_GETFL | libc::F_GETPIPE_SZ | libc::F_GET_SEALS | libc::F_GETOWN => break,
                libc::F_SETFD => text += &format!(", {}", flags(value, DESCRIPTOR, "0")),
                libc::F_SETFL => text += &format!(", {}", argument(Kind::Open, value, &fd)),
                _ => text += &format!(", {}", value.cast_signed()),
            }
            break;
        }
        if place == 2 && syscall == "prctl" {
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        // Without it the kernel does not look.
        if *kind == Kind::Mode && syscall.starts_with("open") && !creates(syscall, values) {
            text.truncate(text.len() - 2);
            continue;
        }
        match (kind, path) {
            (Kind::Path, Some(path)) => text.push_str(path),
            _ => text.push_str(&argument(*kind, value, &fd)),
        }
    }
    // There are more than a recording has.
    if LONGER.contains(&syscall) {
        text.push_str(", …");
    }
    text
}

/// Calls with more than four arguments.
const LONGER: [&str; 24] = [
    "renameat2",
    "copy_file_range",
    "setsockopt",
    "getsockopt",
    "process_vm_readv",
    "fchownat",
    "preadv2",
    "mount",
    "mmap",
    "mremap",
    "clone",
    "execveat",
    "futex",
    "epoll_pwait",
    "epoll_pwait2",
    "statx",
    "ppoll",
    "pselect6",
    "linkat",
    "waitid",
    "sendto",
    "recvfrom",
    "prctl",
    "splice",
];

fn creates(syscall: &str, values: [u64; 4]) -> bool {
    let how = if syscall == "open" { values[1] } else { values[2] };
    how & (libc::O_CREAT | libc::O_TMPFILE) as u64 & !(libc::O_DIRECTORY as u64) != 0
}

fn argument(kind: Kind, value: u64, fd: &impl Fn(i32) -> Option<String>) -> String {
    let number = value as i32;
    let descriptor = || fd(number).map_or_else(|| number.to_string(), |path| format!("{number}<{path}>"));
    match kind {
        Kind::Folder if number == libc::AT_FDCWD => "AT_FDCWD".to_owned(),
        Kind::Fd | Kind::Folder => descriptor(),
        Kind::Path | Kind::Address if value == 0 => "NULL".to_owned(),
        Kind::Path | Kind::Address => format!("{value:#x}"),
        // Most are of 32 bits, and have what was in the register above.
        Kind::Signed if u64::from(value as u32) == value => number.to_string(),
        Kind::Signed | Kind::Offset => value.cast_signed().to_string(),
        Kind::Unsigned => value.to_string(),
        Kind::Mode => format!("{:#05o}", value as u32).replacen("0o", "0", 1),
        Kind::Signal => signal(value),
        Kind::Flags(names) if names == PROTECTION => flags(value, names, "PROT_NONE"),
        Kind::Flags(names) if names == ACCESS => flags(value, names, "F_OK"),
        Kind::Flags(names) => flags(value, names, "0"),
        Kind::One(names) => one(value, names),
        Kind::Open => {
            let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(value & 3) as usize];
            let rest = u64::from(value as u32) & !3 & !LARGE_FILE;
            if rest == 0 { access.to_owned() } else { format!("{access}|{}", flags(rest, OPEN, "")) }
        }
        Kind::Futex => {
            let bits = (libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) as u64;
            let operation = one(value & !bits, FUTEX);
            match value & bits {
                0 => operation,
                bits if bits == libc::FUTEX_PRIVATE_FLAG as u64 => format!("{operation}_PRIVATE"),
                bits => format!("{operation}|{}", flags(bits, FUTEX_FLAGS, "")),
            }
        }
        Kind::SocketKind => {
            let bits = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u64;
            let kind = one(value & !bits, SOCKET_KIND);
            if value & bits == 0 { kind } else { format!("{kind}|{}", flags(value & bits, SOCKET_FLAGS, "")) }
        }
        Kind::Clone => {
            let (bits, at_end) = (flags(value & !0xff, CLONE, ""), value & 0xff);
            match (bits.as_str(), at_end) {
                (_, 0) => bits,
                ("", _) => signal(at_end),
                _ => format!("{bits}|{}", signal(at_end)),
            }
        }
    }
}

/// `O_LARGEFILE` of the kernel, which every 64-bit program has.
const LARGE_FILE: u64 = if cfg!(target_arch = "aarch64") { 0o40_0000 } else { 0o10_0000 };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls;

    fn shown(syscall: &str, values: [u64; 4]) -> String {
        text(syscall, values, None, |fd| (fd == 7).then(|| "/dev/nvidia0".to_owned()))
    }

    #[test]
    fn arguments_are_written_as_people_read_them() {
        let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        assert_eq!(
            shown("mmap", [0, 4096, 3, anonymous]),
            "NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, …"
        );
        assert_eq!(shown("close", [7, 1, 2, 3]), "7</dev/nvidia0>");
        assert_eq!(shown("read", [3, 0x1000, 832, 9]), "3, 0x1000, 832");
        let here = u64::from(libc::AT_FDCWD as u32);
        let path = text("openat", [here, 0x10, libc::O_CLOEXEC as u64, 0o644], Some("\"/etc/ld.so.cache\""), |_| None);
        assert_eq!(path, "AT_FDCWD, \"/etc/ld.so.cache\", O_RDONLY|O_CLOEXEC");
        let made = [here, 0, (libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC) as u64, 0o644];
        assert_eq!(shown("openat", made), "AT_FDCWD, NULL, O_WRONLY|O_CREAT|O_TRUNC, 0644");
        assert_eq!(shown("futex", [0x10, 129, 1, 0]), "0x10, FUTEX_WAKE_PRIVATE, 1, NULL, …");
        assert_eq!(
            shown("futex", [0x10, 265 + 128, 1, 0]),
            "0x10, FUTEX_WAIT_BITSET|FUTEX_PRIVATE_FLAG|FUTEX_CLOCK_REALTIME, 1, NULL, …"
        );
        assert_eq!(shown("madvise", [0x10, 4096, 4, 0]), "0x10, 4096, MADV_DONTNEED");
        assert_eq!(shown("kill", [u64::MAX, 9, 0, 0]), "-1, SIGKILL");
        assert_eq!(shown("wait4", [u64::from(u32::MAX), 0, 1, 0]), "-1, NULL, WNOHANG, NULL");
        assert_eq!(shown("mprotect", [0x10, 1, 0, 0]), "0x10, 1, PROT_NONE");
        assert_eq!(
            shown("clone", [(libc::CLONE_VM | libc::CLONE_VFORK) as u64 | 17, 0, 0, 0]),
            "CLONE_VM|CLONE_VFORK|SIGCHLD, NULL, NULL, NULL, …"
        );
        assert_eq!(shown("getppid", [1, 2, 3, 4]), "");
        assert_eq!(shown("madvise", [0x10, 1, 4711, 0]), "0x10, 1, 4711");
        assert_eq!(shown("eventfd2", [0, 0x8_0801, 0, 0]), format!("0, {}", flags(0x8_0801, EVENTFD, "")));
        // Of one that is not known, its registers.
        assert_eq!(shown("quotactl", [1, 2, 3, 4]), "0x1, 0x2, 0x3, 0x4, …");
    }

    #[test]
    fn every_signature_is_of_a_call_and_every_word_is_known() {
        for line in SIGNATURES.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            assert!(syscalls::by_name(name).is_some() || cfg!(not(target_arch = "x86_64")), "{name}");
            for word in words {
                assert!(kind(word).is_some(), "{word} of {name}");
            }
        }
        assert_eq!((path_argument("openat"), path_argument("open"), path_argument("close")), (Some(1), Some(0), None));
    }
}
