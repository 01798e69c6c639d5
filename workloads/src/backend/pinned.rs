//! Locked memory of the host that a runtime allocated. Who gets it frees it through the runtime.

use std::ptr::NonNull;

/// An array of words that the runtime may copy from and to without a detour.
#[derive(Debug)]
pub(crate) struct Pinned {
    pointer: NonNull<u32>,
    words: usize,
}

impl Pinned {
    /// # Safety
    /// The pointer is to `words` initialised words, aligned, that nobody else uses until it is freed.
    pub(super) unsafe fn new(pointer: NonNull<u32>, words: usize) -> Self {
        Self { pointer, words }
    }

    pub(super) fn pointer(&self) -> *mut u32 {
        self.pointer.as_ptr()
    }

    pub(crate) fn words(&mut self) -> &mut [u32] {
        // SAFETY: as `new` demands.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.words) }
    }
}
