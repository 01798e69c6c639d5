//! Tables of jobs of running processes: found among their open files, and read like any file. What stands in one is the program's
//! word, and nothing in it is trusted but to be numbers: neither that the file is one of memory, nor that its counts are true.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use bytemuck::Pod;
use gpuos_host::proc_text;
use gpuos_tracer_abi::{
    jobs::{
        CLASSES, JobCounts, JobRecord, JobSlot, JobTableHead, MAGIC, RECORDS, SLOTS, TABLE, TABLE_VERSION, offsets,
    },
    phases::LABEL,
};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

/// A table.
#[derive(Debug)]
pub struct JobTable {
    file: File,
    /// Which file it is, whoever has it open.
    pub inode: u64,
    /// When it was made, seconds and nanoseconds of the wall clock.
    pub made: (i64, i64),
    /// Records that were read so far.
    read: u64,
}

/// Records of a table that came since the last time.
#[derive(Debug, Default)]
pub struct NewRecords {
    /// Those that are still there, in their order.
    pub records: Vec<JobRecord>,
    /// Those that others have overwritten, or that were being written.
    pub lost: u64,
}

fn name() -> String {
    format!("/memfd:{TABLE} (deleted)")
}

/// Folder of a process in `/proc` in which its files and its memory can be seen: that of its first thread, or where that has
/// ended, of another.
fn folder_of(pid: u32) -> PathBuf {
    let own = PathBuf::from(format!("/proc/{pid}"));
    let shows = |folder: &Path| fs::read_dir(folder.join("fd")).is_ok_and(|mut files| files.next().is_some());
    if shows(&own) {
        return own;
    }
    let threads = gpuos_host::processes::numbers_in(&format!("/proc/{pid}/task"));
    let folders = threads.into_iter().map(|thread| own.join(format!("task/{thread}")));
    folders.into_iter().find(|folder| shows(folder)).unwrap_or(own)
}

/// The first table that a process has open and that is not among the `known`; a program has one.
pub fn table_of(pid: u32, known: impl Fn(u64) -> bool) -> Option<JobTable> {
    let name = name();
    let files = fs::read_dir(folder_of(pid).join("fd")).into_iter().flatten().flatten();
    let named = files.map(|file| file.path());
    let named = named.filter(|path| fs::read_link(path).is_ok_and(|target| target.as_os_str() == name.as_str()));
    // Of some that have the name, those first.
    named.take(MOST_NAMED).find_map(|path| JobTable::open(&path, &known))
}

/// Files with the name of a table that are looked at: a program has one, and a child that of its parent until it executes.
const MOST_NAMED: usize = 4;

/// Addresses of the slots of a process's threads, by their numbers as the process knows them.
pub fn slots_of(pid: u32) -> HashMap<u32, u64> {
    let folder = folder_of(pid);
    let Ok(maps) = proc_text::read(folder.join("maps")) else { return HashMap::new() };
    let name = name();
    // The whole of it is mapped at once.
    let start = maps.lines().filter(|line| line.ends_with(&name)).find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let offset = rest.split_whitespace().nth(1)?;
        (u64::from_str_radix(offset, 16) == Ok(0) && end - start >= offsets::END as u64).then_some(start)
    });
    let Some(start) = start else { return HashMap::new() };
    let mut bytes = vec![0; SLOTS * size_of::<JobSlot>()];
    let first = start + offsets::SLOT as u64;
    if File::open(folder.join("mem")).and_then(|memory| memory.read_exact_at(&mut bytes, first)).is_err() {
        return HashMap::new();
    }
    let owner = std::mem::offset_of!(JobSlot, thread);
    let slots = (first..).step_by(size_of::<JobSlot>()).zip(bytes.chunks_exact(size_of::<JobSlot>()));
    let thread = |slot: &[u8]| u32::from_ne_bytes([slot[owner], slot[owner + 1], slot[owner + 2], slot[owner + 3]]);
    slots.map(|(address, slot)| (thread(slot), address)).filter(|(thread, _)| *thread != 0).collect()
}

/// The number by which a thread knows itself: that of the innermost pid namespace it is in.
pub fn own_number_of(pid: u32, thread: u32) -> Option<u32> {
    let status = proc_text::read(format!("/proc/{pid}/task/{thread}/status")).ok()?;
    proc_text::field(&status, "NSpid")?.split_whitespace().last()?.parse().ok()
}

impl JobTable {
    /// A file that is one: of memory, so that opening and reading it never wait, and with the words that tables begin with.
    fn open(path: &Path, known: &impl Fn(u64) -> bool) -> Option<Self> {
        // A pipe, or a file of a server that does not answer, may have the name: it is looked at before it is opened.
        let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).ok()?;
        let facts = place.metadata().ok()?;
        // Memfds of huge pages are of another file system, and none of ours.
        let kind = fstatfs(&place).ok()?.filesystem_type();
        if !facts.is_file() || kind != TMPFS_MAGIC || facts.len() < offsets::END as u64 || known(facts.ino()) {
            return None;
        }
        let again = format!("/proc/self/fd/{}", place.as_raw_fd());
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(again).ok()?;
        let table = Self { file, inode: facts.ino(), made: (facts.ctime(), facts.ctime_nsec()), read: 0 };
        let head = table.head().ok()?;
        (head.magic == MAGIC && head.version == TABLE_VERSION).then_some(table)
    }

    fn value<T: Pod>(&self, at: usize) -> io::Result<T> {
        let mut value = T::zeroed();
        self.file.read_exact_at(bytemuck::bytes_of_mut(&mut value), at as u64)?;
        Ok(value)
    }

    /// Its beginning.
    ///
    /// # Errors
    /// The program made its file shorter.
    pub fn head(&self) -> io::Result<JobTableHead> {
        self.value(0)
    }

    /// Label of a class, by its number from 1 on.
    pub fn label(&self, class: u32) -> Option<[u8; LABEL]> {
        let place = (class as usize).checked_sub(1).filter(|place| *place < CLASSES)?;
        self.value(offsets::LABELS + place * LABEL).ok()
    }

    /// Labels and counts of its classes, by their numbers from 1 on. Those whose counts cannot be are left out.
    ///
    /// # Errors
    /// The program made its file shorter.
    pub fn classes(&self) -> io::Result<Vec<([u8; LABEL], JobCounts)>> {
        let classes = (self.head()?.classes as usize).min(CLASSES);
        let of = |place: usize| {
            let label = self.value(offsets::LABELS + place * LABEL)?;
            Ok((label, self.value(offsets::COUNTS + place * size_of::<JobCounts>())?))
        };
        let all: Vec<([u8; LABEL], JobCounts)> = (0..classes).map(of).collect::<io::Result<_>>()?;
        Ok(all.into_iter().filter(|(_, counts)| may_be(counts)).collect())
    }

    /// Jobs that ended before this are not reported.
    pub fn begin_here(&mut self) {
        self.read = self.head().map_or(0, |head| head.recorded);
    }

    /// Jobs that have ended since this was asked for the last time.
    ///
    /// # Errors
    /// The program made its file shorter.
    pub fn new_records(&mut self) -> io::Result<NewRecords> {
        let recorded = self.head()?.recorded;
        let before = std::mem::replace(&mut self.read, recorded);
        let came = recorded.saturating_sub(before).min(RECORDS as u64);
        let mut new = NewRecords { lost: recorded.saturating_sub(before) - came, ..NewRecords::default() };
        for number in (recorded - came..recorded).map(|number| number.wrapping_add(1)) {
            let place = (number.wrapping_sub(1) % RECORDS as u64) as usize;
            let at = offsets::RECORD + place * size_of::<JobRecord>();
            let record: JobRecord = self.value(at)?;
            // Its number is written last, and taken away first.
            if record.number == number && self.value::<u64>(at)? == number {
                new.records.push(record);
            } else {
                new.lost = new.lost.saturating_add(1);
            }
        }
        Ok(new)
    }
}

/// Whether counts can be those of a class: a program may write what it likes, and others have classes of the same label.
fn may_be(counts: &JobCounts) -> bool {
    // While it is read, more may end than had begun.
    const MEANWHILE: u64 = 1 << 16;
    // A job each microsecond for some years.
    const MOST: u64 = 1 << 47;
    let ended = counts.done.saturating_add(counts.failed);
    let in_buckets = |buckets: &[u32]| buckets.iter().map(|count| u64::from(*count)).sum::<u64>();
    counts.begun < MOST
        && ended <= counts.begun + MEANWHILE
        && [&counts.durations, &counts.lateness].iter().all(|buckets| in_buckets(*buckets) <= counts.done + MEANWHILE)
}
