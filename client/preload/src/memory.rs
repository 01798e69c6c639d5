//! Device memory of CUDA that the program frees and asks for again: blocks are kept, and the next request for exactly as many bytes
//! gets one without a call. Only with `GPUOS_JOBS=arena`.
//!
//! A free waits for the context first, as the driver's own does, so that nothing still uses what is given again. What is kept and
//! what the program has are together never more than the program once had at a time, and what is kept is no more than [`MOST_KEPT`]:
//! memory may be asked for by functions that are not seen here.

use std::{
    collections::{HashMap, VecDeque},
    ffi::{c_int, c_void},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use crate::{
    calls::{Code, Handle, OfOne, Originals, original},
    captures,
    counts::{self, count, keeps_memory},
    runtimes::{self, Runtime},
    waits::{self, inside, is_inside},
};

const SUCCESS: Code = 0;
const OUT_OF_MEMORY: Code = 2;
/// Bytes.
const MOST_KEPT: usize = 256 << 20;

pub(crate) static ALLOCATE: Originals = Originals::new();
pub(crate) static FREE: Originals = Originals::new();
pub(crate) static DESTROY_CONTEXT: Originals = Originals::new();
pub(crate) static RELEASE_PRIMARY: Originals = Originals::new();
pub(crate) static RESET_PRIMARY: Originals = Originals::new();
pub(crate) static EXPORT: Originals = Originals::new();

type Allocate = unsafe extern "C" fn(*mut u64, usize) -> Code;
type Free = unsafe extern "C" fn(u64) -> Code;
type OfDevice = unsafe extern "C" fn(c_int) -> Code;
type Export = unsafe extern "C" fn(*mut c_void, u64) -> Code;

/// Of which context, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    context: u64,
    bytes: usize,
}

#[derive(Default)]
struct Blocks {
    /// By address: what the program has.
    live: HashMap<u64, Block>,
    /// What is kept, the oldest first.
    kept: VecDeque<(u64, Block)>,
    live_bytes: usize,
    kept_bytes: usize,
    most_bytes: usize,
}

impl Blocks {
    fn has(&mut self, address: u64, block: Block) {
        // One that was freed by a function that is not seen.
        if let Some(before) = self.live.insert(address, block) {
            self.live_bytes -= before.bytes;
        }
        self.live_bytes += block.bytes;
        self.most_bytes = self.most_bytes.max(self.live_bytes);
    }

    /// A kept block that is exactly what is asked for.
    fn again(&mut self, wanted: Block) -> Option<u64> {
        let place = self.kept.iter().rposition(|(_, block)| *block == wanted)?;
        let (address, block) = self.kept.remove(place)?;
        self.kept_bytes -= block.bytes;
        self.has(address, block);
        Some(address)
    }

    /// A block that the program has no more.
    fn remove(&mut self, address: u64) -> Option<Block> {
        let block = self.live.remove(&address)?;
        self.live_bytes -= block.bytes;
        Some(block)
    }

    /// Keeps a block that the program has freed; returns what is too much now, and goes back.
    fn keep(&mut self, address: u64, block: Block) -> Vec<(u64, Block)> {
        self.kept.push_back((address, block));
        self.kept_bytes += block.bytes;
        let mut back = Vec::new();
        while (self.live_bytes + self.kept_bytes > self.most_bytes || self.kept_bytes > MOST_KEPT)
            && let Some(oldest) = self.kept.pop_front()
        {
            self.kept_bytes -= oldest.1.bytes;
            back.push(oldest);
        }
        back
    }

    fn take_kept(&mut self) -> Vec<(u64, Block)> {
        self.kept_bytes = 0;
        self.kept.drain(..).collect()
    }
}

static BLOCKS: LazyLock<Mutex<Blocks>> = LazyLock::new(Mutex::default);

fn blocks() -> MutexGuard<'static, Blocks> {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives blocks back to the driver, each in its context.
fn give_back(given: &[(u64, Block)]) {
    given.iter().for_each(|(address, block)| runtimes::free(block.context, *address));
}

/// Gives all back that is kept; whether there was any.
pub(crate) fn give_all_back() -> bool {
    let kept = blocks().take_kept();
    give_back(&kept);
    !kept.is_empty()
}

pub(crate) unsafe extern "C" fn allocate<const PLACE: usize>(to: *mut u64, bytes: usize) -> Code {
    // SAFETY: the type is that of `cuda.h`.
    let original: Allocate = unsafe { original(&ALLOCATE, PLACE) };
    let context = if keeps_memory() && !is_inside() && !to.is_null() { runtimes::current(Runtime::Cuda) } else { None };
    if let Some(context) = context {
        counts::tell_at_the_end();
        let again = blocks().again(Block { context, bytes });
        if let Some(address) = again {
            count(&counts::AGAIN);
            // SAFETY: a place for an address, as the program says.
            unsafe { to.write(address) };
            return SUCCESS;
        }
    }
    // SAFETY: as the program calls it.
    let mut code = inside(|| unsafe { original(to, bytes) });
    if code == OUT_OF_MEMORY && give_all_back() {
        // SAFETY: as above.
        code = inside(|| unsafe { original(to, bytes) });
    }
    if let Some(context) = context
        && code == SUCCESS
    {
        // SAFETY: the driver has filled it.
        blocks().has(unsafe { *to }, Block { context, bytes });
    }
    code
}

pub(crate) unsafe extern "C" fn free<const PLACE: usize>(address: u64) -> Code {
    // SAFETY: the type is that of `cuda.h`.
    let original: Free = unsafe { original(&FREE, PLACE) };
    let known = if is_inside() { None } else { blocks().remove(address) };
    // The driver's own free waits for the context as well. What it cannot wait for is not kept.
    let kept = known.filter(|block| {
        keeps_memory()
            && runtimes::current(Runtime::Cuda) == Some(block.context)
            && !captures::are_open()
            && runtimes::synchronize()
    });
    let Some(block) = kept else {
        // SAFETY: as the program calls it.
        return inside(|| unsafe { original(address) });
    };
    let back = blocks().keep(address, block);
    give_back(&back);
    SUCCESS
}

pub(crate) unsafe extern "C" fn destroy_context<const PLACE: usize>(context: Handle) -> Code {
    leave(|block| block.context == context as u64);
    // SAFETY: the type is that of `cuda.h`.
    let original: OfOne = unsafe { original(&DESTROY_CONTEXT, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe { original(context) })
}

pub(crate) unsafe extern "C" fn release_primary<const PLACE: usize>(device: c_int) -> Code {
    leave(|_| true);
    // SAFETY: the type is that of `cuda.h`.
    let original: OfDevice = unsafe { original(&RELEASE_PRIMARY, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe { original(device) })
}

pub(crate) unsafe extern "C" fn reset_primary<const PLACE: usize>(device: c_int) -> Code {
    leave(|_| true);
    // SAFETY: the type is that of `cuda.h`.
    let original: OfDevice = unsafe { original(&RESET_PRIMARY, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe { original(device) })
}

/// A block that another process may open is the driver's to free.
pub(crate) unsafe extern "C" fn export<const PLACE: usize>(handle: *mut c_void, address: u64) -> Code {
    let exported = |start: u64, block: &Block| (start..start + block.bytes as u64).contains(&address);
    let mut blocks = blocks();
    if let Some(start) = blocks.live.iter().find(|(start, block)| exported(**start, block)).map(|(start, _)| *start) {
        blocks.remove(start);
    }
    drop(blocks);
    // SAFETY: the type is that of `cuda.h`.
    let original: Export = unsafe { original(&EXPORT, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe { original(handle, address) })
}

/// Before a context ends, which takes its memory along: what is kept goes back, and of the blocks that the program has those are not
/// known any more.
fn leave(which: impl Fn(&Block) -> bool) {
    give_all_back();
    let mut blocks = blocks();
    blocks.live.retain(|_, block| !which(block));
    blocks.live_bytes = blocks.live.values().map(|block| block.bytes).sum();
    drop(blocks);
    waits::forget_contexts();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_as_many_bytes_of_the_same_context_come_again() {
        let mut blocks = Blocks::default();
        let of = |context, bytes| Block { context, bytes };
        blocks.has(0x1000, of(1, 64));
        blocks.remove(0x1000);
        assert_eq!(blocks.keep(0x1000, of(1, 64)), []);
        assert_eq!((blocks.again(of(1, 65)), blocks.again(of(2, 64))), (None, None));
        assert_eq!(blocks.again(of(1, 64)), Some(0x1000));
        assert_eq!((blocks.live_bytes, blocks.kept_bytes), (64, 0));
    }

    #[test]
    fn never_more_is_kept_than_the_program_once_had() {
        let mut blocks = Blocks::default();
        let of = |bytes| Block { context: 1, bytes };
        for (address, bytes) in [(1, 100), (2, 200)] {
            blocks.has(address, of(bytes));
        }
        for (address, bytes) in [(1, 100), (2, 200)] {
            blocks.remove(address);
            assert_eq!(blocks.keep(address, of(bytes)), []);
        }
        // Another size: the oldest goes back once the program frees it.
        blocks.has(3, of(150));
        blocks.remove(3);
        assert_eq!(blocks.keep(3, of(150)), [(1, of(100)), (2, of(200))]);
        assert_eq!((blocks.kept_bytes, blocks.most_bytes), (150, 300));
        assert_eq!(blocks.take_kept(), [(3, of(150))]);
    }
}
