//! What each thread works for, where the operating system can see it: a slot of its own in memory that the process shares.
//!
//! A change is a store, without a call. Whoever traces the process finds the table among its mappings; the kernel side of a
//! tracer that was there before hears of each slot once, by a marker. Without a tracer the words are not read.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use gpuos_tracer_abi::{
    jobs::{BUCKETS, CLASSES, OPERATION_SLOT, RECORDS, bucket_of},
    phases::{LABEL, MARKER, MOST_NESTED, Marker, SCOPE_THREAD},
};

use crate::{
    clock::now,
    shared::{SharedCounts, SharedSlot, is_ours, table},
    table::has_forked,
};

/// Labels that have a number, the first 1.
static LABELS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Number of a class by its label: classes with one label are one. 0: it has no place in the table.
pub(crate) fn number_of(label: &str) -> u32 {
    let Some(table) = table().filter(|_| !has_forked()) else { return 0 };
    let label = &label[..label.floor_char_boundary(LABEL - 1)];
    let mut labels = LABELS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = labels.iter().position(|known| known == label) {
        return place as u32 + 1;
    }
    let Some(place) = table.labels.get(labels.len()) else {
        table.head.classes_lost.fetch_add(1, Ordering::Relaxed);
        return 0;
    };
    // And the NUL: a tracer reads pages that have been written to, and an empty label writes nothing else.
    place.iter().zip(label.bytes().chain([0])).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
    labels.push(label.to_owned());
    table.head.classes.store(labels.len() as u32, Ordering::Release);
    labels.len() as u32
}

fn counts(class: u32) -> Option<&'static SharedCounts> {
    table()?.counts.get((class as usize).checked_sub(1).filter(|place| *place < CLASSES)?)
}

/// A thread's place in the table; free again when it is dropped.
struct Slot(&'static SharedSlot);

impl Slot {
    /// One for this thread; that of a thread which ended without a word where all are taken.
    fn take() -> Option<Self> {
        let table = table().filter(|_| !has_forked())?;
        let this = this_thread();
        let take = |slot: &SharedSlot, from: u32| {
            slot.thread.compare_exchange(from, this, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let free = table.slots.iter().find(|slot| slot.thread.load(Ordering::Relaxed) == 0 && take(slot, 0));
        let found = free.or_else(|| {
            may_search()?;
            table.slots.iter().find(|slot| {
                let owner = slot.thread.load(Ordering::Relaxed);
                is_gone(owner) && take(slot, owner)
            })
        });
        let Some(slot) = found else {
            table.head.threads_lost.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        slot.class.store(0, Ordering::Relaxed);
        slot.labels.store(table.labels.as_ptr() as u64, Ordering::Release);
        tell(std::ptr::from_ref(slot) as u64);
        Some(Self(slot))
    }

    /// A change: the time first, so that a class never has that of another.
    #[inline]
    fn set(&self, class: u32, since: u64) {
        // In a child of the process, however it was made, the table is its parent's.
        if !is_ours() {
            return;
        }
        self.0.since_ns.store(since, Ordering::Release);
        self.0.class.store(class, Ordering::Release);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if is_ours() {
            tell(0);
            self.set(0, 0);
            self.0.thread.store(0, Ordering::Release);
        }
    }
}

/// Slots of threads that ended without a word are looked for once a second: that is a call for each.
fn may_search() -> Option<()> {
    static SEARCHED: AtomicU64 = AtomicU64::new(0);
    const EACH: u64 = 1_000_000_000;
    let (now, before) = (now(), SEARCHED.load(Ordering::Relaxed));
    let is_time = before == 0 || now.saturating_sub(before) >= EACH;
    (is_time && SEARCHED.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()).then_some(())
}

/// Whether this process has no such thread.
fn is_gone(thread: u32) -> bool {
    // SAFETY: has no arguments.
    let process = unsafe { libc::getpid() };
    // SAFETY: sends nothing.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) };
    sent != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// Tells the kernel side of a tracer where this thread's slot is (0: nowhere); without one this is a call that fails.
fn tell(address: u64) {
    let marker = Marker { operation: OPERATION_SLOT, scope: SCOPE_THREAD, count: address, label: [0; LABEL] };
    // SAFETY: has no arguments.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own.
    let before = unsafe { *errno };
    // SAFETY: the call fails before anybody looks at the pointer, a tracer apart, which only reads.
    unsafe { libc::syscall(libc::SYS_ioctl, -1, MARKER, &raw const marker) };
    // SAFETY: the thread's own.
    unsafe { *errno = before };
}

/// Why a thread works for a class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The program says so.
    Entered,
    /// It has begun this job and not submitted it.
    Open(u64),
    /// It waits for a job.
    Waits,
}

/// What a thread works for, the innermost last.
struct Thread {
    slot: Option<Slot>,
    stack: [(u32, Reason); MOST_NESTED as usize],
    depth: usize,
    /// Deeper ones, which are not kept.
    ignored: usize,
}

impl Thread {
    fn new() -> Self {
        Self { slot: Slot::take(), stack: [(0, Reason::Entered); _], depth: 0, ignored: 0 }
    }

    fn top(&self) -> u32 {
        self.depth.checked_sub(1).map_or(0, |top| self.stack[top].0)
    }

    fn show(&self, since: u64) {
        if let Some(slot) = &self.slot {
            slot.set(self.top(), since);
        }
    }

    #[inline]
    fn push(&mut self, class: u32, reason: Reason, since: u64) {
        if self.depth == self.stack.len() {
            // What a job issues is left by its handle, and is not found then.
            self.ignored += usize::from(!matches!(reason, Reason::Open(_)));
            return;
        }
        self.stack[self.depth] = (class, reason);
        self.depth += 1;
        if let Some(slot) = &self.slot {
            slot.set(class, since);
        }
    }

    /// Takes the innermost with this reason away. Says whether there is one.
    #[inline]
    fn pop(&mut self, reason: Reason, since: u64) -> bool {
        if self.ignored > 0 && !matches!(reason, Reason::Open(_)) {
            self.ignored -= 1;
            return true;
        }
        let top = self.depth.wrapping_sub(1);
        if self.stack.get(top).is_none_or(|(_, innermost)| *innermost != reason) {
            let open = self.stack.get(..self.depth).unwrap_or_default();
            let Some(place) = open.iter().rposition(|(_, other)| *other == reason) else { return false };
            self.stack.copy_within(place + 1..self.depth, place);
        }
        self.depth -= 1;
        self.show(since);
        true
    }

    /// Jobs that it began and another thread has submitted are not its own any more.
    fn forget_others(&mut self) {
        for place in (0..self.depth).rev() {
            if let (_, Reason::Open(job)) = self.stack[place]
                && !crate::job::is_open(job)
            {
                self.stack.copy_within(place + 1..self.depth, place);
                self.depth -= 1;
            }
        }
    }
}

thread_local!(static THREAD: RefCell<Option<Thread>> = const { RefCell::new(None) });

/// Does something with what this thread works for; nothing in a thread that ends.
#[inline]
fn with<T>(what: impl FnOnce(&mut Thread) -> T) -> Option<T> {
    THREAD.try_with(|thread| Some(what(thread.try_borrow_mut().ok()?.get_or_insert_with(Thread::new)))).ok().flatten()
}

/// From now on this thread works for the class with this number, until [`leave`]: one store, and no look at the clock.
#[inline]
pub(crate) fn enter(class: u32) {
    with(|thread| thread.push(class, Reason::Entered, 0));
}

/// It works for what it worked for before. False: it had entered nothing.
#[inline]
pub fn leave() -> bool {
    with(|thread| thread.pop(Reason::Entered, 0)).unwrap_or(false)
}

/// This thread issues the work of a job.
pub(crate) fn begun(class: u32, job: u64) {
    with(|thread| {
        if thread.depth > 0 {
            thread.forget_others();
        }
        thread.push(class, Reason::Open(job), now());
    });
}

/// It has submitted it, or given it up, at this time.
pub(crate) fn issued(job: u64, at: u64) {
    with(|thread| thread.pop(Reason::Open(job), at));
}

/// A thread that waits for a job works for its class; what it did before goes on when this is dropped.
#[must_use = "the wait ends when this is dropped"]
pub(crate) struct Waiting(());

/// This thread waits for a job of a class.
pub(crate) fn waits(class: u32, since: u64) -> Waiting {
    with(|thread| {
        if thread.depth > 0 {
            thread.forget_others();
        }
        thread.push(class, Reason::Waits, since);
    });
    Waiting(())
}

impl Drop for Waiting {
    fn drop(&mut self) {
        with(|thread| thread.pop(Reason::Waits, now()));
    }
}

/// Number of this thread.
pub(crate) fn this_thread() -> u32 {
    thread_local!(static NUMBER: Cell<u32> = const { Cell::new(0) });
    let number = NUMBER.get();
    if number != 0 {
        return number;
    }
    // SAFETY: has no arguments.
    NUMBER.set(unsafe { libc::gettid() } as u32);
    NUMBER.get()
}

/// How much more was counted of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grown {
    pub(crate) begun: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

/// Counts of a class grew.
pub(crate) fn counted(class: u32, grown: Grown) {
    let Some(counts) = counts(class) else { return };
    let add = |to: &AtomicU64, more: u64| {
        if more > 0 {
            to.fetch_add(more, Ordering::Relaxed);
        }
    };
    add(&counts.begun, grown.begun);
    add(&counts.done, grown.done);
    add(&counts.failed, grown.failed);
}

/// Raises the most bytes that the jobs of a class held at one time to this number.
pub(crate) fn has_had(class: u32, bytes: u64) {
    if let Some(counts) = counts(class) {
        counts.bytes.fetch_max(bytes, Ordering::Relaxed);
    }
}

/// A job has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) class: u32,
    pub(crate) submitter: u32,
    pub(crate) submitted: u64,
    pub(crate) known: u64,
    /// When a look last found that it had not ended.
    pub(crate) looked: u64,
    pub(crate) has_failed: bool,
}

/// Says what became of a job.
pub(crate) fn ended(job: &Ended) {
    let (Some(table), Some(counts)) = (table(), counts(job.class)) else { return };
    let looked = job.looked.max(job.submitted);
    if !job.has_failed {
        let count = |in_buckets: &[AtomicU32; BUCKETS], ns: u64| {
            in_buckets[bucket_of(ns)].fetch_add(1, Ordering::Relaxed);
        };
        count(&counts.durations, job.known.saturating_sub(job.submitted));
        count(&counts.lateness, job.known.saturating_sub(looked));
    }
    let number = table.head.recorded.fetch_add(1, Ordering::AcqRel) + 1;
    let record = &table.records[((number - 1) % RECORDS as u64) as usize];
    // A reader skips a record whose number is 0: it is being written.
    record.number.store(0, Ordering::Release);
    record.submitted_ns.store(job.submitted, Ordering::Release);
    record.known_ns.store(job.known, Ordering::Relaxed);
    record.looked_ns.store(looked, Ordering::Relaxed);
    record.class.store(job.class, Ordering::Relaxed);
    record.submitter.store(job.submitter, Ordering::Relaxed);
    record.knower.store(this_thread(), Ordering::Relaxed);
    record.failed.store(job.has_failed.into(), Ordering::Relaxed);
    record.number.store(number, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuos_tracer_abi::jobs::SLOTS;

    /// What the kernel side would see of this thread.
    fn shown() -> u32 {
        with(|thread| thread.slot.as_ref().map_or(0, |slot| slot.0.class.load(Ordering::Acquire))).unwrap()
    }

    #[test]
    fn what_a_thread_works_for_is_nested_to_a_depth_of_eight() {
        let classes: Vec<u32> = (0..10).map(|number| number_of(&format!("nested {number}"))).collect();
        assert_eq!(classes[3], number_of("nested 3"));
        for (depth, class) in classes.iter().enumerate() {
            enter(*class);
            assert_eq!(shown(), classes[depth.min(7)]);
        }
        for depth in (0..10).rev() {
            assert_eq!(shown(), classes[depth.min(7)]);
            assert!(leave());
        }
        assert_eq!((shown(), leave()), (0, false));
    }

    #[test]
    fn jobs_that_begin_inside_eight_leave_nothing_behind() {
        let class = number_of("deep");
        (0..8).for_each(|_| enter(class));
        for job in 0..20 {
            begun(class, job);
            issued(job, 0);
        }
        assert_eq!((0..20).take_while(|_| leave()).count(), 8);
        assert_eq!(shown(), 0);
    }

    #[test]
    fn a_wait_inside_goes_back_to_what_is_around() {
        let (outer, inner) = (number_of("outer"), number_of("inner"));
        enter(outer);
        let waiting = waits(inner, now());
        assert_eq!(shown(), inner);
        drop(waiting);
        assert_eq!(shown(), outer);
        leave();
    }

    #[test]
    fn a_slot_goes_with_its_thread() {
        let class = number_of("of a thread");
        let of_thread = std::thread::spawn(move || {
            enter(class);
            with(|thread| thread.slot.as_ref().map(|slot| slot.0)).unwrap().unwrap()
        });
        let slot = of_thread.join().unwrap();
        assert_ne!(slot.class.load(Ordering::Acquire), class);
        // More threads than there are slots, one after the other.
        for _ in 0..SLOTS + 8 {
            std::thread::spawn(move || enter(class)).join().unwrap();
        }
        assert_eq!(table().unwrap().head.threads_lost.load(Ordering::Relaxed), 0);
    }
}
