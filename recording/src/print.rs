//! Events as lines of text, as people read traces: when, who, the call with its arguments, what it returned, how long it took.
//! Descriptors are shown with what was opened, as far as the events tell: a path, or what kind of thing it is.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    time::Duration,
};

use gpuos_decode::arguments;
use gpuos_model::units::printable;
use nix::errno::Errno;
use serde_json::{Map, Value, json};

use crate::{rows::EventRow, table::word};

/// Which events are wanted. What is no call is there for the others, unless something is asked of calls that it has not.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Calls with these names; empty: all.
    pub calls: Vec<String>,
    /// On devices whose name begins so.
    pub device: Option<String>,
    /// In this phase, or one inside it.
    pub phase: Option<String>,
    /// That failed, or that the driver refused.
    pub failed: bool,
    /// That took longer.
    pub slower: Option<Duration>,
    /// Of these processes or threads, by their numbers; empty: of all.
    pub pids: Vec<u32>,
}

impl Choice {
    /// Whether an event is wanted.
    #[must_use]
    pub fn has(&self, row: &EventRow<'_>) -> bool {
        if row.event == word::LOST {
            return true;
        }
        if !self.pids.is_empty() && !self.pids.contains(&row.pid) && !self.pids.contains(&row.thread) {
            return false;
        }
        let is_in = |phase: &String| {
            row.phase.strip_prefix(phase.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !self.phase.as_ref().is_none_or(is_in) {
            return false;
        }
        let is_call = matches!(row.event, word::CALL | word::UNFINISHED);
        let asks_of_calls = !self.calls.is_empty() || self.device.is_some() || self.failed || self.slower.is_some();
        if !is_call {
            return !asks_of_calls;
        }
        (self.calls.is_empty() || self.calls.iter().any(|name| name == row.syscall))
            && self
                .device
                .as_ref()
                .map(|device| device.strip_prefix("/dev/").unwrap_or(device))
                .is_none_or(|device| !row.device.is_empty() && row.device.starts_with(device))
            && (!self.failed || !row.error.is_empty() || !row.status.is_empty())
            && self.slower.is_none_or(|limit| row.duration.is_some_and(|lasted| u128::from(lasted) > limit.as_nanos()))
    }
}

/// What a descriptor is.
#[derive(Clone, Debug)]
struct Opened {
    what: String,
    ends_at_exec: bool,
    /// When the call that made it returned: what was called before is about another.
    since_ns: u64,
}

/// Descriptors of processes, by their numbers.
#[derive(Debug, Default)]
struct Descriptors {
    open: HashMap<(u32, i32), Opened>,
    /// Numbers of processes by their ids: a child has what its parent had.
    pids: HashMap<u64, u32>,
    /// Threads of each process that have not ended.
    threads: HashMap<u32, HashSet<u32>>,
    /// Processes that share their descriptors with another, where changes are not followed.
    shared: HashSet<u32>,
    /// Events were lost: a descriptor may have been opened or closed in one of them.
    has_lost: bool,
}

impl Descriptors {
    fn of(&self, row: &EventRow<'_>, fd: i32) -> Option<String> {
        let opened = self.open.get(&(row.pid, fd))?;
        (opened.since_ns <= row.time).then(|| opened.what.clone())
    }

    fn set(&mut self, row: &EventRow<'_>, fd: i64, what: String, ends_at_exec: bool) {
        if self.shared.contains(&row.pid) {
            return;
        }
        if let Ok(fd) = i32::try_from(fd) {
            self.open.insert((row.pid, fd), Opened { what, ends_at_exec, since_ns: row.end() });
        }
    }

    /// A number is free, or somebody has it of whom nothing is known.
    fn forget(&mut self, row: &EventRow<'_>, fd: i32) {
        // Another thread may have got the number before this one returned.
        if self.open.get(&(row.pid, fd)).is_some_and(|opened| opened.since_ns <= row.time) {
            self.open.remove(&(row.pid, fd));
        }
    }

    fn forget_all(&mut self, pid: u32) {
        self.open.retain(|(owner, _), _| *owner != pid);
    }

    /// Gives a process what another has open under these numbers.
    fn look_at(&mut self, pid: u32, other: &str, numbers: std::ops::RangeInclusive<i32>) {
        for entry in std::fs::read_dir(format!("/proc/{other}/fd")).into_iter().flatten().flatten() {
            let number: Option<i32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(fd) = number.filter(|fd| numbers.contains(fd)) else { continue };
            let Ok(what) = std::fs::read_link(entry.path()) else { continue };
            let facts = std::fs::read_to_string(format!("/proc/{other}/fdinfo/{fd}")).unwrap_or_default();
            let flags = facts.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| i64::from_str_radix(flags.trim(), 8).ok());
            let ends_at_exec = flags.is_none_or(|flags| flags & i64::from(libc::O_CLOEXEC) != 0);
            self.open
                .insert((pid, fd), Opened { what: what.to_string_lossy().into_owned(), ends_at_exec, since_ns: 0 });
        }
    }

    /// Follows what an event does to descriptors; `path`: that which its call is about.
    fn follow(&mut self, row: &EventRow<'_>, path: Option<&str>) {
        let pid = row.pid;
        match row.event {
            word::LOST => {
                self.open.clear();
                self.has_lost = true;
            }
            word::PROCESS => {
                self.pids.insert(row.process, pid);
                self.threads.insert(pid, HashSet::from([row.thread]));
                self.shared.remove(&pid);
                let parent = self.pids.get(&row.argument0).copied();
                let inherited: Vec<_> = self
                    .open
                    .iter()
                    .filter(|((owner, _), _)| Some(*owner) == parent)
                    .map(|((_, fd), opened)| (*fd, opened.clone()))
                    .collect();
                self.forget_all(pid);
                self.open.extend(inherited.into_iter().map(|(fd, opened)| ((pid, fd), opened)));
            }
            word::THREAD => drop(self.threads.entry(pid).or_default().insert(row.thread)),
            word::EXEC => {
                self.threads.insert(pid, HashSet::from([pid]));
                // It has a table of its own now, of which nothing is known.
                if self.shared.remove(&pid) {
                    self.forget_all(pid);
                }
                self.open.retain(|(owner, _), opened| *owner != pid || !opened.ends_at_exec);
            }
            word::END => {
                if let Some(threads) = self.threads.get_mut(&pid) {
                    threads.remove(&row.thread);
                }
                if self.is_over(pid) {
                    self.forget_all(pid);
                }
            }
            word::CALL if row.abi == "native" => self.call(row, path),
            _ => {}
        }
    }

    /// Whether no thread of a process is left.
    fn is_over(&self, pid: u32) -> bool {
        self.threads.get(&pid).is_none_or(HashSet::is_empty)
    }

    fn call(&mut self, row: &EventRow<'_>, path: Option<&str>) {
        let [first, second, third, fourth] = row.arguments();
        let (pid, first_fd) = (row.pid, first as i32);
        let Some(made) = row.returned.filter(|returned| *returned >= 0) else {
            // Closed all the same, whatever it says.
            if row.syscall == "close" && row.error != "EBADF" {
                self.forget(row, first_fd);
            }
            return;
        };
        let closes = |flags: u64| flags & libc::O_CLOEXEC as u64 != 0;
        match row.syscall {
            "open" | "creat" | "openat" | "openat2" => {
                let (folder, flags) = match row.syscall {
                    "openat" => (Some(first_fd), third),
                    // Its flags are in memory; what is not known to stay open is forgotten at the next program.
                    "openat2" => (Some(first_fd), libc::O_CLOEXEC as u64),
                    "open" => (None, second),
                    _ => (None, 0),
                };
                let Some(path) = path else { return self.forget(row, made as i32) };
                let folder = folder.filter(|_| !path.starts_with('/')).and_then(|fd| self.of(row, fd));
                let what = match folder {
                    _ if path.starts_with('/') => path.to_owned(),
                    Some(folder) => format!("{folder}/{path}"),
                    // Relative to a folder that is not followed.
                    None => format!("…/{path}"),
                };
                self.set(row, made, what, closes(flags));
            }
            "dup2" if first == second => {}
            "fcntl" if second as i32 == libc::F_SETFD => {
                if let Some(opened) = self.open.get_mut(&(pid, first_fd)) {
                    opened.ends_at_exec = third & libc::FD_CLOEXEC as u64 != 0;
                }
            }
            "ioctl" => {
                // FIOCLEX and FIONCLEX of asm/ioctls.h.
                let ends = match second {
                    0x5451 => true,
                    0x5450 => false,
                    _ => return,
                };
                if let Some(opened) = self.open.get_mut(&(pid, first_fd)) {
                    opened.ends_at_exec = ends;
                }
            }
            "dup" | "dup2" | "dup3" | "fcntl" => {
                let is_copy = row.syscall != "fcntl" || matches!(second as i32, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC);
                if is_copy {
                    let ends_at_exec = row.syscall == "dup3" && closes(third)
                        || row.syscall == "fcntl" && second as i32 == libc::F_DUPFD_CLOEXEC;
                    match self.of(row, first_fd) {
                        Some(what) => self.set(row, made, what, ends_at_exec),
                        None => self.forget(row, made as i32),
                    }
                }
            }
            "close" => self.forget(row, first_fd),
            "close_range" => {
                const CLOEXEC: u64 = 4;
                let is_in = |fd: i32| (first..=second).contains(&(fd as u64));
                if third & CLOEXEC != 0 {
                    let in_range = self.open.iter_mut().filter(|((owner, fd), _)| *owner == pid && is_in(*fd));
                    in_range.for_each(|(_, opened)| opened.ends_at_exec = true);
                } else {
                    self.open.retain(|(owner, fd), _| *owner != pid || !is_in(*fd));
                }
            }
            "clone" if first & libc::CLONE_FILES as u64 != 0 && first & libc::CLONE_THREAD as u64 == 0 => {
                for pid in [pid, made as u32] {
                    self.forget_all(pid);
                    self.shared.insert(pid);
                }
            }
            // `pipe` writes both numbers to memory, which is not read: what was known of such numbers was closed before.
            "pipe" | "pipe2" | "socketpair" => {}
            "accept4" => self.set(row, made, "socket".to_owned(), closes(fourth)),
            "memfd_create" => {
                let name = path.map_or_else(|| "memfd".to_owned(), |name| format!("memfd:{name}"));
                self.set(row, made, name, second & u64::from(libc::MFD_CLOEXEC) != 0);
            }
            "pidfd_open" => self.set(row, made, format!("pidfd of {first_fd}"), true),
            name => {
                if let Some((_, what, flags)) = MADE.iter().find(|(known, ..)| *known == name) {
                    let flags = match flags {
                        0 => closes(first),
                        1 => closes(second),
                        _ => true,
                    };
                    self.set(row, made, (*what).to_owned(), flags);
                }
            }
        }
    }
}

/// Calls that return a new descriptor, what it is, and which argument has the flag that ends it at the next program; 2: it is in
/// none, and it is taken to end there.
const MADE: [(&str, &str, usize); 16] = [
    ("socket", "socket", 1),
    ("accept", "socket", 3),
    ("eventfd", "eventfd", 3),
    ("eventfd2", "eventfd", 1),
    ("epoll_create", "epoll", 3),
    ("epoll_create1", "epoll", 0),
    ("timerfd_create", "timerfd", 1),
    ("inotify_init", "inotify", 3),
    ("inotify_init1", "inotify", 0),
    ("signalfd4", "signalfd", 2),
    ("userfaultfd", "userfaultfd", 0),
    ("io_uring_setup", "io_uring", 2),
    ("perf_event_open", "perf event", 2),
    ("pidfd_getfd", "a copy", 2),
    ("open_by_handle_at", "file", 2),
    ("memfd_secret", "memfd", 0),
];

/// Calls that change what a descriptor is: where one of them is not among the events, descriptors cannot be followed.
pub const OF_DESCRIPTORS: [&str; 34] = [
    "open",
    "openat",
    "openat2",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "close",
    "close_range",
    "socket",
    "accept",
    "accept4",
    "eventfd",
    "eventfd2",
    "epoll_create",
    "epoll_create1",
    "timerfd_create",
    "memfd_create",
    "pidfd_open",
    "pipe",
    "pipe2",
    "ioctl",
    "clone",
    "inotify_init",
    "inotify_init1",
    "signalfd4",
    "userfaultfd",
    "io_uring_setup",
    "perf_event_open",
    "pidfd_getfd",
    "open_by_handle_at",
    "memfd_secret",
    "socketpair",
];

/// Where processes whose parent is not traced have their descriptors from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstDescriptors {
    /// Some calls are missing that change descriptors: they are shown by number.
    NotFollowed,
    /// They cannot be looked at any more.
    NotKnown,
    /// From this program, which launches them: the first three.
    Ours,
    /// They run already, and are looked at.
    Theirs,
}

/// Turns events into lines.
#[derive(Debug)]
pub struct Printer {
    /// Objects of JSON in place of text.
    is_json: bool,
    /// Times are since then, `CLOCK_MONOTONIC` nanoseconds.
    start_ns: u64,
    /// Where the first processes have their descriptors from.
    first: FirstDescriptors,
    descriptors: Descriptors,
}

impl Printer {
    /// Of a recording that began at this time.
    #[must_use]
    pub fn new(start_ns: u64, is_json: bool, first: FirstDescriptors) -> Self {
        Self { is_json, start_ns, first, descriptors: Descriptors::default() }
    }

    /// Times are since then.
    pub fn begin_at(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
    }

    /// The line of an event, without its end; `None` where it is not wanted. Every event must come here, also those that are not.
    pub fn line(&mut self, row: &EventRow<'_>, choice: &Choice) -> Option<String> {
        let path = row.fields.strip_prefix("path=");
        let is_wanted = choice.has(row);
        // What it closes is open until then, what it opens from then on.
        let is_call = matches!(row.event, word::CALL | word::UNFINISHED);
        let arguments = if is_wanted && is_call { self.arguments(row, path) } else { String::new() };
        self.descriptors.follow(row, path.and_then(unquoted));
        // Its parent is none of those that are traced.
        if row.event == word::PROCESS && row.argument0 == 0 && !self.descriptors.has_lost {
            match self.first {
                FirstDescriptors::NotFollowed | FirstDescriptors::NotKnown => {}
                FirstDescriptors::Ours => self.descriptors.look_at(row.pid, "self", 0..=2),
                FirstDescriptors::Theirs => {
                    self.descriptors.look_at(row.pid, &row.pid.to_string(), 0..=i32::MAX);
                    let threads = gpuos_host::processes::numbers_in(&format!("/proc/{}/task", row.pid));
                    self.descriptors.threads.entry(row.pid).or_default().extend(threads);
                }
            }
        }
        is_wanted.then(|| if self.is_json { object(row, &arguments) } else { self.text(row, &arguments) })
    }

    /// What a descriptor is, as far as the events tell.
    fn known(&self, row: &EventRow<'_>, fd: i32) -> Option<String> {
        if self.first == FirstDescriptors::NotFollowed { None } else { self.descriptors.of(row, fd) }
    }

    fn arguments(&self, row: &EventRow<'_>, path: Option<&str>) -> String {
        let fd = |fd| {
            let known = self.known(row, fd);
            // The kernel side may have looked.
            let is_first = fd == row.argument0 as i32 && !row.device.is_empty();
            known.or_else(|| is_first.then(|| device_of(row))).map(|what| printable(&what))
        };
        if row.abi != "native" {
            return row.arguments().map(|value| format!("{:#x}", value as u32)).join(", ") + ", …";
        }
        if row.command.is_empty() {
            return arguments::text(row.syscall, row.arguments(), path, fd);
        }
        let number = row.argument0 as i32;
        let file = fd(number).map_or_else(|| number.to_string(), |what| format!("{number}<{what}>"));
        let mut text = format!("{file}, {}", row.command);
        if !row.detail.is_empty() {
            let _ = write!(text, " {}", row.detail);
        }
        if row.fields.is_empty() {
            text + &format!(", {:#x}", row.argument2)
        } else {
            text + &format!(", {{{}}}", row.fields.replace(' ', ", "))
        }
    }

    fn result(&self, row: &EventRow<'_>) -> String {
        let Some(returned) = row.returned else { return "?".to_owned() };
        let mut text = if row.error.is_empty() {
            let is_address = matches!(row.syscall, "mmap" | "mremap" | "brk" | "shmat");
            let made = i32::try_from(returned).ok().filter(|_| makes_descriptor(row.syscall));
            // It is what it is from the return on.
            let what = made.and_then(|fd| self.known(&EventRow { time: row.end(), ..*row }, fd));
            match what {
                _ if is_address => format!("{returned:#x}"),
                Some(what) => format!("{returned}<{}>", printable(&what)),
                None => returned.to_string(),
            }
        } else {
            let code = i32::try_from(-returned).unwrap_or_default();
            // A restart is seen by no program, and has no text.
            let is_known = Errno::from_raw(code) != Errno::UnknownErrno;
            let text = std::io::Error::from_raw_os_error(code).to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            if is_known { format!("-1 {} ({text})", row.error) } else { format!("? {}", row.error) }
        };
        if !row.status.is_empty() {
            let _ = write!(text, " status {}", row.status);
        }
        text
    }

    fn text(&self, row: &EventRow<'_>, arguments: &str) -> String {
        let at = row.time.saturating_sub(self.start_ns);
        let mut line = format!(
            "{:>4}.{:06} {:>7} {:<15} ",
            at / 1_000_000_000,
            at % 1_000_000_000 / 1000,
            row.thread,
            printable(row.comm)
        );
        let time = |ns: u64| format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
        let lasted = row.duration.unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = match row.event {
            word::CALL => {
                let call = format!("{}({})", row.syscall, arguments);
                let took = row.duration.map_or_else(String::new, |ns| format!(" <{}>", time(ns)));
                write!(line, "{call} = {}{took}", self.result(row))
            }
            word::UNFINISHED => {
                write!(line, "{}({}) = ? <unfinished after {}>", row.syscall, arguments, time(lasted))
            }
            word::PROCESS => write!(line, "+++ process {} begins +++", row.pid),
            word::THREAD => write!(line, "+++ thread of {} begins +++", row.pid),
            word::EXEC => write!(line, "+++ executes {} +++", printable(row.comm)),
            word::NAME => write!(line, "+++ is named {} +++", printable(row.comm)),
            word::END => match row.returned {
                Some(code) if self.descriptors.is_over(row.pid) && code & 0x7f != 0 => {
                    write!(line, "+++ killed by {} +++", signal_name(code & 0x7f))
                }
                Some(code) if self.descriptors.is_over(row.pid) => {
                    write!(line, "+++ exited with {} +++", code >> 8 & 0xff)
                }
                _ => write!(line, "+++ thread ends +++"),
            },
            word::PHASE_BEGIN => write!(line, "--- {} begins ---", printable(row.phase)),
            word::PHASE_END => write!(line, "--- {} ends ---", printable(row.phase)),
            word::ITERATIONS => write!(line, "--- {} iterations of {} ---", row.argument0, printable(row.phase)),
            word::OFF_CPU => write!(line, "--- off cpu, {}, for {} ---", row.detail, time(lasted)),
            word::FAULT => write!(line, "--- page fault at {:#x} ---", row.argument0),
            word::JOB => write!(
                line,
                "--- job of {}, known by {} after {} ---",
                printable(row.detail),
                row.argument1,
                time(lasted)
            ),
            word::LOST => write!(
                line,
                "--- LOST: {} events found no place in the ring (`--ring` makes it larger) ---",
                row.argument0
            ),
            other => write!(line, "--- {other} ---"),
        };
        line
    }
}

/// An event as an object of JSON: what it has, by the names of the columns.
fn object(row: &EventRow<'_>, arguments: &str) -> String {
    let mut object = Map::new();
    let mut add = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    add("time_ns", json!(row.time));
    add("event", json!(row.event));
    add("pid", json!(row.pid));
    add("thread", json!(row.thread));
    for (name, text) in [("comm", row.comm), ("phase", row.phase)] {
        if !text.is_empty() {
            add(name, json!(text));
        }
    }
    if matches!(row.event, word::CALL | word::UNFINISHED) {
        add("syscall", json!(row.syscall));
        add("arguments", json!(arguments));
        // Larger numbers lose digits in JavaScript.
        add("argument_words", json!(row.arguments().map(|value| format!("{value:#x}"))));
        add("returned", json!(row.returned));
    } else {
        if row.returned.is_some() {
            add("returned", json!(row.returned));
        }
        add("values", json!(row.arguments().map(|value| format!("{value:#x}"))));
    }
    for (name, text) in [
        ("error", row.error),
        ("device", row.device),
        ("ioctl", row.command),
        ("detail", row.detail),
        ("status", row.status),
        ("fields", row.fields),
        ("role", row.role),
    ] {
        if !text.is_empty() {
            add(name, json!(text));
        }
    }
    if let Some(lasted) = row.duration {
        add("duration_ns", json!(lasted));
    }
    Value::Object(object).to_string()
}

/// What stands in quotes; of one that was cut nothing.
fn unquoted(path: &str) -> Option<&str> {
    path.strip_prefix('"')?.strip_suffix('"')
}

/// A device by its name, or what a descriptor without one is.
fn device_of(row: &EventRow<'_>) -> String {
    // Numbers from here on are of what is no device (`docs/file-format.md`).
    const NO_DEVICE: u32 = 4095 << 20;
    if row.device_number < NO_DEVICE { format!("/dev/{}", row.device) } else { row.device.to_owned() }
}

/// Whether a call returns a descriptor.
fn makes_descriptor(syscall: &str) -> bool {
    matches!(
        syscall,
        "open" | "openat" | "openat2" | "creat" | "dup" | "dup2" | "dup3" | "memfd_create" | "pidfd_open" | "accept4"
    ) || MADE.iter().any(|(name, ..)| *name == syscall)
}

fn signal_name(number: i64) -> String {
    let known = i32::try_from(number).ok().and_then(|number| nix::sys::signal::Signal::try_from(number).ok());
    known.map_or_else(|| format!("signal {number}"), |signal| signal.as_str().to_owned())
}
