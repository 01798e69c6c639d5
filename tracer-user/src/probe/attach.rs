//! Attaching to processes that run already: every thread gets task storage through a pidfd.

use std::{
    collections::HashMap,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use gpuos_host::{proc_text, processes::name_of};
use gpuos_tracer_abi::{
    events::{EventHeader, Lifecycle, PROCESS},
    fd_table::{FdKey, FdTable, OpenFd},
    ioctl::DeviceId,
    maps,
    tasks::{EXIT_UNKNOWN, ProcessRecord, TaskUsage, ThreadState, process_id},
};

use super::{
    error::LoadError,
    job_table::{own_number_of, slots_of},
    load::Tracer,
    process::{ProcessHandle, while_there},
    rights,
};

/// Refuses what makes no calls, or cannot be counted.
fn refuse_untraceable(pid: u32) -> Result<(), AttachError> {
    // PF_KTHREAD of the kernel's `sched.h`.
    const KERNEL_THREAD: u64 = 0x20_0000;
    let gone = |_| AttachError::NoSuchProcess(pid);
    let stat = while_there(pid, || proc_text::read(format!("/proc/{pid}/stat"))).map_err(gone)?;
    // Its first thread may have ended, and others go on.
    if proc_text::state(&stat) == Some('Z') && !threads_of(pid).map_err(gone)?.iter().any(|&one| is_alive(pid, one)) {
        return Err(AttachError::Ended(pid));
    }
    if pid == std::process::id() {
        return Err(AttachError::Ourselves(pid));
    }
    let flags = proc_text::stat_field(&stat, 9).and_then(|flags| flags.parse::<u64>().ok()).unwrap_or(0);
    if flags & KERNEL_THREAD != 0 { Err(AttachError::OfTheKernel(pid)) } else { Ok(()) }
}

/// For a recording: the life of a process that is attached to begins at that moment.
#[must_use]
pub fn beginning_of(pid: u32, now_ns: u64) -> Lifecycle {
    let head = EventHeader { at_ns: now_ns, pid, thread: pid, kind: PROCESS, ..EventHeader::default() };
    // One that is gone will not be attached to.
    Lifecycle { head, process: process_id(pid, now_ns), comm: name_of(pid).unwrap_or_default(), ..Lifecycle::default() }
}

impl Tracer {
    /// Threads that were attached to and had a slot for what they work for.
    #[must_use]
    pub fn job_slots(&self) -> u64 {
        self.job_slots.get()
    }

    /// Counts a running process from now on: all its threads and later children. The call that a thread
    /// is in already is not counted.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach_to(&self, process: &ProcessHandle, now_ns: u64) -> Result<Attached, AttachError> {
        let pid = process.pid();
        refuse_untraceable(pid)?;
        rights::may_trace(pid).map_err(|source| AttachError::NotYours { pid, source })?;
        // What was looked at by its number was its own.
        if !process.has_its_number() {
            return Err(AttachError::NoSuchProcess(pid));
        }
        let id = process_id(pid, now_ns);
        self.make_record(pid, id, now_ns)?;
        let before = self.mark_threads(process, id)?;
        // A thread may have executed a program with other rights before it was marked. The kernel side lets go of it at its
        // first call; here it is said.
        rights::may_trace(pid).map_err(|source| AttachError::NotYours { pid, source })?;
        if self.without_btf().is_some() {
            self.tell_open_devices(pid, id)?;
        }
        Ok(Attached { id, pid, before })
    }

    /// Makes a process known to the kernel side.
    fn make_record(&self, pid: u32, id: u64, now_ns: u64) -> Result<(), AttachError> {
        let comm = while_there(pid, || name_of(pid)).map_err(|_| AttachError::NoSuchProcess(pid))?;
        // Threads that are marked have not been seen yet, and nobody knows how many will be: the record of
        // a process that was attached to is not taken before the end.
        let exit_code = if self.without_btf().is_some() { EXIT_UNKNOWN } else { 0 };
        let record =
            ProcessRecord { started_ns: now_ns, pid, comm, unborn: NEVER_TAKEN, exit_code, ..Default::default() };
        let processes = self.objects.typed_map::<u64, ProcessRecord>(maps::PROCESSES)?;
        processes
            .insert(&id, &record)
            .map_err(|error| LoadError::from_step("making a record of the process", &error))?;
        if self.without_btf().is_some() {
            let (other_paths, other_table) = ((!has_our_paths(pid)).into(), has_ring(pid).into());
            let table = FdTable { other_paths, other_table, ..FdTable::default() };
            let tables = self.objects.typed_map::<u64, FdTable>(maps::FD_TABLES)?;
            tables.insert(&id, &table).map_err(|error| LoadError::from_step("following the process", &error))?;
        }
        Ok(())
    }

    /// Marks every thread of a process, and those that are made meanwhile. Says what each had used before.
    fn mark_threads(&self, process: &ProcessHandle, id: u64) -> Result<HashMap<u32, TaskUsage>, AttachError> {
        let pid = process.pid();
        let mut before: HashMap<u32, TaskUsage> = HashMap::new();
        let slots = slots_of(pid);
        for _ in 0..MOST_PASSES {
            let threads = while_there(pid, || threads_of(pid)).map_err(|_| AttachError::NoSuchProcess(pid))?;
            let mut is_complete = true;
            for thread in threads {
                // A thread that executes takes the number of the first one, so a number that was seen is no proof.
                if before.contains_key(&thread) && (self.is_marked(process, thread)? || !is_alive(pid, thread)) {
                    continue;
                }
                is_complete = false;
                let used = usage_of(pid, thread).unwrap_or_default();
                before.insert(thread, used);
                // What the kernel side cannot look at at the end, it need not know at the beginning.
                let settled = if self.without_btf().is_some() { TaskUsage::ZERO } else { used };
                let slot = own_number_of(pid, thread).filter(|_| !slots.is_empty()).and_then(|own| slots.get(&own));
                self.job_slots.set(self.job_slots.get() + u64::from(slot.is_some()));
                let job_slot = slot.copied().unwrap_or_default();
                let state = ThreadState { job_slot, ..ThreadState::attached(id, thread, settled) };
                self.mark_thread(process, thread, &state)?;
            }
            // Every thread that was listed is marked, so whoever is made from now on inherits it.
            if is_complete {
                return Ok(before);
            }
        }
        Err(AttachError::NeverStill(pid))
    }

    /// Gives one thread state, unless it has some, or has ended.
    fn mark_thread(&self, process: &ProcessHandle, thread: u32, state: &ThreadState) -> Result<(), AttachError> {
        let pid = process.pid();
        let Err(error) = self.mark(thread, || process.thread(thread), state) else {
            // Where it was marked by its number, that may have been another's meanwhile.
            if process.check_thread(thread).is_err() {
                self.unmark(thread, state);
            }
            return Ok(());
        };
        match error.raw_os_error() {
            // Its parent was marked before it, and so is it; or it ended meanwhile.
            Some(libc::EEXIST | libc::ESRCH | libc::ENOENT) => Ok(()),
            Some(libc::EINVAL) => Err(AttachError::OldKernel(pid)),
            _ => Err(LoadError::from_step("marking a thread", &error).into()),
        }
    }

    /// Tells the kernel side, which follows fds from their making, which devices a process has open already.
    fn tell_open_devices(&self, pid: u32, process: u64) -> Result<(), LoadError> {
        let step = |error| LoadError::from_step("telling which devices are open", &error);
        let open = self.objects.typed_map::<FdKey, OpenFd>(maps::OPEN_FDS)?;
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Some((device, flags)) = open_device(pid, number) else { continue };
            let is_kept = (flags & libc::O_CLOEXEC == 0).into();
            let opened = OpenFd { process, device, generation: 0, executions: 0, is_kept };
            let key = FdKey { pid, number };
            match open.insert(&key, &opened) {
                // It has just opened it.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                other => other.map_err(step)?,
            }
            // From here on its end is noticed; before, it was not.
            if open_device(pid, number) != Some((device, flags)) {
                open.delete(&[key]).map_err(step)?;
            }
        }
        Ok(())
    }

    /// Whether a thread has state, or is gone.
    fn is_marked(&self, process: &ProcessHandle, thread: u32) -> Result<bool, LoadError> {
        match self.state_of(thread, || process.thread(thread)) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(true),
            Err(error) => Err(LoadError::from_step("looking at a thread", &error)),
        }
    }
}

/// The device that an fd leads to, and its flags; `None` for all else.
fn open_device(pid: u32, number: u32) -> Option<(DeviceId, i32)> {
    let facts = std::fs::metadata(format!("/proc/{pid}/fd/{number}")).ok()?;
    let text = proc_text::read(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let flags = i32::from_str_radix(proc_text::field(&text, "flags")?, 8).ok()?;
    let is_device = facts.file_type().is_char_device() && flags & libc::O_PATH == 0;
    is_device.then(|| (DeviceId::new(libc::major(facts.rdev()), libc::minor(facts.rdev())), flags))
}

/// Whether a process has an io_uring.
fn has_ring(pid: u32) -> bool {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_ring =
        |path: &std::path::Path| std::fs::read_link(path).is_ok_and(|to| to.ends_with("anon_inode:[io_uring]"));
    entries.into_iter().any(|entry| is_ring(&entry.path()))
}

/// Whether paths lead a process to what they lead us to.
fn has_our_paths(pid: u32) -> bool {
    let mounts = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let root = |process: &str| {
        std::fs::metadata(format!("/proc/{process}/root/")).ok().map(|facts| (facts.dev(), facts.ino()))
    };
    let (pid, us) = (pid.to_string(), "self");
    mounts(&pid).is_some() && mounts(&pid) == mounts(us) && root(&pid).is_some() && root(&pid) == root(us)
}

/// Threads may come and go while they are marked; each is looked at again as often.
const MOST_PASSES: usize = 10_000;

/// The numbers of a process's threads.
fn threads_of(pid: u32) -> std::io::Result<Vec<u32>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"))?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Whether a thread is there and has not ended.
fn is_alive(pid: u32, thread: u32) -> bool {
    let stat = proc_text::read(format!("/proc/{pid}/task/{thread}/stat")).unwrap_or_default();
    proc_text::state(&stat).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// More threads than a process can have.
const NEVER_TAKEN: u32 = 1 << 24;

/// A process that was attached to.
#[derive(Debug)]
pub struct Attached {
    /// Process id in the counts.
    pub id: u64,
    pid: u32,
    before: HashMap<u32, TaskUsage>,
}

impl Attached {
    /// What its threads that are still alive have used since: the kernel side settles with a thread only
    /// at its end.
    #[must_use]
    pub fn usage_of_live_threads(&self) -> TaskUsage {
        let mut sum = TaskUsage::ZERO;
        let entries = std::fs::read_dir(format!("/proc/{}/task", self.pid));
        for entry in entries.into_iter().flatten().flatten() {
            let thread = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            let Some((thread, now)) = thread.and_then(|thread| Some((thread, usage_of(self.pid, thread)?))) else {
                continue;
            };
            let before = self.before.get(&thread).copied().unwrap_or_default();
            let mut used = now.since(&before);
            // Of the thread's whole life: only their proportion is used, to split the run time.
            let (user, system) = times_of(self.pid, thread).unwrap_or_default();
            (used.user_ns, used.system_ns) = (user, system);
            sum.merge(&used);
        }
        sum
    }
}

/// What a thread has used so far, from `/proc`. User and system time are left at 0: the kernel side counts
/// them over the thread's whole life, and only their proportion matters.
fn usage_of(pid: u32, thread: u32) -> Option<TaskUsage> {
    let folder = format!("/proc/{pid}/task/{thread}");
    let status = proc_text::read(format!("{folder}/status")).ok()?;
    let stat = proc_text::read(format!("{folder}/stat")).ok()?;
    let schedstat = proc_text::read(format!("{folder}/schedstat")).unwrap_or_default();
    let (usage, run_ns) = proc_text::usage(&status, &stat, &schedstat)?;
    Some(TaskUsage {
        voluntary_switches: usage.voluntary_switches,
        involuntary_switches: usage.involuntary_switches,
        minor_faults: usage.minor_faults,
        major_faults: usage.major_faults,
        user_ns: usage.user_ns,
        system_ns: usage.system_ns,
        run_ns,
    })
}

/// User and system time of a thread over its life.
fn times_of(pid: u32, thread: u32) -> Option<(u64, u64)> {
    proc_text::user_and_system_ns(&proc_text::read(format!("/proc/{pid}/task/{thread}/stat")).ok()?)
}

/// Why a running process cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It is not there.
    #[error("there is no process {0}\nhint: `pgrep -a NAME` finds it; inside a container, give its number there")]
    NoSuchProcess(u32),
    /// It has ended, and nobody has waited for it.
    #[error("process {0} has ended already\nhint: its parent has not collected it; `ps -p {0} -o ppid=` names that")]
    Ended(u32),
    /// It is one thread of several.
    #[error("{0} is a thread of process {1}\nhint: `-p {1}` attaches to all of it")]
    ThreadOf(u32, u32),
    /// Its threads were never seen all marked.
    #[error(
        "the threads of process {0} come and go too fast to be attached to\nhint: try again, or start it with `gpuos-trace run -- …`"
    )]
    NeverStill(u32),
    /// It is the tracer.
    #[error(
        "process {0} is this gpuos-trace itself\nhint: name the process that is to be looked at; `pgrep -a NAME` finds it"
    )]
    Ourselves(u32),
    /// It has no program.
    #[error("{0} is a thread of the kernel, which makes no system calls\nhint: `pgrep -a NAME` finds processes")]
    OfTheKernel(u32),
    /// The tracer's rights are those of its file, and the kernel would not let its caller ptrace this.
    #[error(
        "process {pid} is not yours to look at: {source}\nhint: this gpuos-trace has its rights from its file, and shows only what you could ptrace; run it through sudo for others"
    )]
    NotYours {
        /// Which.
        pid: u32,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// Threads cannot be named to this kernel.
    #[error(
        "process {0} has several threads, and attaching to those needs Linux 6.9, or root outside of containers\nhint: start it with `gpuos-trace run -- …`"
    )]
    OldKernel(u32),
    /// The BPF side refused.
    #[error(transparent)]
    Load(#[from] LoadError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_has_used_something() {
        let pid = std::process::id();
        assert!(usage_of(pid, pid).unwrap().minor_faults > 0);
    }
}
