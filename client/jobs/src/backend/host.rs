//! Streams on threads of the CPU: functions in order, one thread a stream. The whole state machine runs on it, with errors and
//! lost devices when a test asks for them.

use std::{
    alloc::Layout,
    collections::{HashMap, VecDeque},
    ptr::NonNull,
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{Backend, PAGE, POISON, Stream, Token, TokenPage};
use crate::error::{Error, Result, Status};

/// What a stream does: returns 0, or the code of an error that ends the stream.
pub type Operation = Arc<dyn Fn() -> i32 + Send + Sync>;

#[derive(Clone)]
enum Item {
    Do(Operation),
    Write(Token),
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    is_busy: bool,
    is_closed: bool,
    is_lost: bool,
    error: i32,
    /// What is queued meanwhile is recorded.
    recording: Option<Vec<Item>>,
}

struct Shared {
    queue: Mutex<Queue>,
    change: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct HostStream {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

static STREAMS: LazyLock<Mutex<HashMap<u64, HostStream>>> = LazyLock::new(Mutex::default);
static GRAPHS: LazyLock<Mutex<HashMap<u64, Vec<Item>>>> = LazyLock::new(Mutex::default);
/// Of streams and of recordings; small numbers are handles of their own in CUDA, whose fake has these streams.
static NEXT: AtomicU64 = AtomicU64::new(0x1000);

fn streams() -> MutexGuard<'static, HashMap<u64, HostStream>> {
    STREAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn graphs() -> MutexGuard<'static, HashMap<u64, Vec<Item>>> {
    GRAPHS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shared(stream: Stream) -> Result<Arc<Shared>> {
    let streams = streams();
    let found =
        streams.get(&stream.0).ok_or_else(|| Error::new(Status::Lost, format!("no host stream {}", stream.0)))?;
    Ok(Arc::clone(&found.shared))
}

/// Makes a stream, with a thread of its own.
///
/// # Errors
/// There is no thread.
pub fn open() -> Result<Stream> {
    crate::table::refuse_forked()?;
    let shared = Arc::new(Shared { queue: Mutex::default(), change: Condvar::new() });
    let of_thread = Arc::clone(&shared);
    let thread = thread::Builder::new().name("gpuos-host".to_owned()).spawn(move || work(&of_thread));
    let thread = thread.map_err(|error| Error::new(Status::System, format!("a thread: {error}")))?;
    let stream = NEXT.fetch_add(1, Ordering::Relaxed);
    streams().insert(stream, HostStream { shared, thread: Some(thread) });
    Ok(Stream(stream))
}

/// Does what is queued, and ends the stream.
///
/// # Errors
/// There is none, or it is the one that calls.
pub fn close(stream: Stream) -> Result<()> {
    let is_own = |stream: &HostStream| {
        stream.thread.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
    };
    let mut all = streams();
    if all.get(&stream.0).is_some_and(is_own) {
        return Err(Error::new(Status::State, "an operation closes its own host stream"));
    }
    let found = all.remove(&stream.0);
    drop(all);
    let mut found = found.ok_or_else(|| Error::new(Status::Stale, format!("no host stream {}", stream.0)))?;
    found.shared.queue().is_closed = true;
    found.shared.change.notify_all();
    if let Some(thread) = found.thread.take() {
        // A panic of an operation is the program's.
        thread.join().ok();
    }
    Ok(())
}

/// Queues a function.
///
/// # Errors
/// There is no such stream, or it has failed.
pub fn launch(stream: Stream, operation: Operation) -> Result<()> {
    push(stream, Item::Do(operation))
}

/// Waits until all that is queued is done.
///
/// # Errors
/// There is no such stream, or it has failed.
pub fn synchronize(stream: Stream) -> Result<()> {
    wait_until(stream, is_idle)
}

fn is_idle(queue: &Queue) -> bool {
    queue.items.is_empty() && !queue.is_busy
}

fn wait_until(stream: Stream, is_over: impl Fn(&Queue) -> bool) -> Result<()> {
    let shared = shared(stream)?;
    let mut queue = shared.queue();
    loop {
        check(&queue)?;
        if is_over(&queue) {
            return Ok(());
        }
        queue = shared.change.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Whether what is queued is recorded.
pub fn is_recording(stream: Stream) -> bool {
    shared(stream).is_ok_and(|shared| shared.queue().recording.is_some())
}

/// The device of a stream is gone: nothing that is queued is done, no token comes.
///
/// # Errors
/// There is no such stream.
pub fn lose(stream: Stream) -> Result<()> {
    let shared = shared(stream)?;
    shared.queue().is_lost = true;
    shared.change.notify_all();
    Ok(())
}

fn push(stream: Stream, item: Item) -> Result<()> {
    crate::table::refuse_forked()?;
    let shared = shared(stream)?;
    let mut queue = shared.queue();
    check(&queue)?;
    match &mut queue.recording {
        Some(recording) => recording.push(item),
        None => queue.items.push_back(item),
    }
    drop(queue);
    shared.change.notify_all();
    Ok(())
}

fn check(queue: &Queue) -> Result<()> {
    if queue.is_lost {
        return Err(Error::new(Status::Lost, "the host stream was lost"));
    }
    if queue.error != 0 {
        let what = format!("an operation of the host stream returned {}", queue.error);
        return Err(Error { status: Status::Failed, code: queue.error, what });
    }
    Ok(())
}

fn work(shared: &Shared) {
    let mut queue = shared.queue();
    loop {
        if queue.is_lost || queue.error != 0 {
            queue.items.clear();
        }
        queue.is_busy = !queue.items.is_empty();
        match queue.items.pop_front() {
            Some(Item::Do(operation)) => {
                drop(queue);
                let code = operation();
                queue = shared.queue();
                queue.error = code;
            }
            Some(Item::Write(token)) => {
                token.write();
                shared.change.notify_all();
            }
            None if queue.is_closed => return,
            None => {
                shared.change.notify_all();
                queue = shared.change.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// The runtime.
#[derive(Debug, Default)]
pub struct Host;

fn layout(bytes: usize) -> Result<Layout> {
    const ALIGNMENT: usize = 4096;
    let layout = Layout::from_size_align(bytes, ALIGNMENT);
    layout.map(|layout| layout.pad_to_align()).map_err(|error| Error::new(Status::Memory, error.to_string()))
}

fn protect(address: u64, bytes: usize, rights: libc::c_int) -> Result<()> {
    let bytes = layout(bytes)?.size();
    // SAFETY: whole pages that this back-end allocated.
    if unsafe { libc::mprotect(address as *mut libc::c_void, bytes, rights) } == 0 {
        Ok(())
    } else {
        Err(Error::system("mprotect"))
    }
}

impl Backend for Host {
    fn name(&self) -> &'static str {
        "host"
    }

    fn tokens(&self) -> Result<TokenPage> {
        let words = NonNull::new(self.allocate(PAGE)? as *mut u8);
        let words = words.ok_or_else(|| Error::new(Status::Memory, "a page of tokens"))?;
        // SAFETY: a page of zeros, never given back.
        Ok(unsafe { TokenPage::new(words, words.as_ptr() as u64) })
    }

    fn queue_token(&self, stream: Stream, token: &Token) -> Result<()> {
        if shared(stream)?.queue().recording.is_some() {
            return Err(Error::new(Status::Capturing, "a host stream that is recorded"));
        }
        push(stream, Item::Write(token.clone()))
    }

    fn is_idle(&self, stream: Stream) -> Result<bool> {
        let shared = shared(stream)?;
        let queue = shared.queue();
        check(&queue)?;
        Ok(is_idle(&queue))
    }

    fn block(&self, stream: Stream, token: &Token) -> Result<()> {
        wait_until(stream, |queue| token.has_arrived() || is_idle(queue))
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        // SAFETY: the layout is not empty.
        let address = unsafe { std::alloc::alloc_zeroed(layout(bytes.max(1))?) };
        if address.is_null() { Err(Error::new(Status::Memory, format!("{bytes} bytes"))) } else { Ok(address as u64) }
    }

    fn release(&self, address: u64, bytes: usize) {
        if let Ok(layout) = layout(bytes.max(1)) {
            // SAFETY: allocated above, with the same layout.
            unsafe { std::alloc::dealloc(address as *mut u8, layout) };
        }
    }

    fn poison(&self, address: u64, bytes: usize) -> Result<()> {
        // SAFETY: no job has this memory.
        unsafe { std::ptr::write_bytes(address as *mut u8, POISON, bytes) };
        // A use after the end is a signal at that very place.
        protect(address, bytes, libc::PROT_NONE)
    }

    fn begin_recording(&self, stream: Stream) -> Result<()> {
        let shared = shared(stream)?;
        let mut queue = shared.queue();
        if queue.recording.is_some() {
            return Err(Error::new(Status::Capturing, "a host stream that is recorded"));
        }
        queue.recording = Some(Vec::new());
        Ok(())
    }

    fn end_recording(&self, stream: Stream) -> Result<u64> {
        let recorded = shared(stream)?.queue().recording.take();
        let recorded = recorded.ok_or_else(|| Error::new(Status::State, "a host stream that is not recorded"))?;
        let graph = NEXT.fetch_add(1, Ordering::Relaxed);
        graphs().insert(graph, recorded);
        Ok(graph)
    }

    fn launch_recorded(&self, stream: Stream, graph: u64) -> Result<()> {
        let items = graphs().get(&graph).cloned();
        let items = items.ok_or_else(|| Error::new(Status::Stale, format!("no recording {graph}")))?;
        items.into_iter().try_for_each(|item| push(stream, item))
    }

    fn forget(&self, graph: u64) {
        graphs().remove(&graph);
    }

    fn unpoison(&self, address: u64, bytes: usize) -> Result<bool> {
        protect(address, bytes, libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: as above.
        let memory = unsafe { std::slice::from_raw_parts(address as *const u8, bytes) };
        Ok(memory.iter().all(|byte| *byte == POISON))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_queued_is_done_in_order_and_an_error_ends_it() {
        let stream = open().unwrap();
        let mut token = Token::of_page(Host.tokens().unwrap()).remove(0);
        token.next();
        let order = Arc::new(Mutex::new(Vec::new()));
        for number in 0..3 {
            let order = Arc::clone(&order);
            launch(
                stream,
                Arc::new(move || {
                    order.lock().unwrap().push(number);
                    0
                }),
            )
            .unwrap();
        }
        Host.queue_token(stream, &token).unwrap();
        Host.block(stream, &token).unwrap();
        assert!(token.has_arrived() && Host.is_idle(stream).unwrap());
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        launch(stream, Arc::new(|| 7)).unwrap();
        token.next();
        let error = Host.block(stream, &token).unwrap_err();
        assert_eq!((error.status, error.code), (Status::Failed, 7));
        assert_eq!(launch(stream, Arc::new(|| 0)).unwrap_err().status, Status::Failed);
        close(stream).unwrap();
        assert_eq!(Host.is_idle(stream).unwrap_err().status, Status::Lost);
        assert_eq!(close(stream).unwrap_err().status, Status::Stale);
    }
}
