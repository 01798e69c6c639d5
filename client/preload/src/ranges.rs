//! The NVTX range that a thread is in, where `libgpuos_nvtx.so` has taken NVTX over: what is launched in one is told by its label.

use std::{
    ffi::c_char,
    sync::atomic::{AtomicUsize, Ordering},
};

use gpuos_tracer_abi::phases::LABEL;

/// A label, without more bytes than the system sees of one; numbers in it are told by `#`, so that those of steps are one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    label: [u8; LABEL],
    length: usize,
}

type OfThread = unsafe extern "C" fn(*mut c_char, usize) -> usize;

/// The function of `libgpuos_nvtx.so` that tells a thread's range; 0 before that is loaded.
static OF_THREAD: AtomicUsize = AtomicUsize::new(0);

/// That library says where its function is.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn gpuos_job_preload_ranges(of_thread: OfThread) {
    OF_THREAD.store(of_thread as usize, Ordering::Release);
}

impl Range {
    /// The innermost of this thread.
    pub(crate) fn innermost() -> Option<Self> {
        let of_thread = OF_THREAD.load(Ordering::Acquire);
        if of_thread == 0 {
            return None;
        }
        // SAFETY: a function of this type was stored.
        let of_thread: OfThread = unsafe { std::mem::transmute(of_thread) };
        let mut label = [0; LABEL];
        // SAFETY: there is room for as many bytes.
        let length = unsafe { of_thread(label.as_mut_ptr().cast(), LABEL - 1) }.min(LABEL - 1);
        Self::of(&label[..length])
    }

    fn of(text: &[u8]) -> Option<Self> {
        let mut range = Self { label: [0; LABEL], length: 0 };
        for byte in text {
            let byte = if byte.is_ascii_digit() { b'#' } else { *byte };
            if byte == b'#' && range.bytes().last() == Some(&b'#') {
                continue;
            }
            range.label[range.length] = byte;
            range.length += 1;
        }
        (range.length > 0).then_some(range)
    }

    /// Its label.
    pub(crate) fn label(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// What tells it from others, besides what was launched.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.label[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::Range;

    #[test]
    fn numbered_ranges_are_one() {
        let label = |text: &str| Range::of(text.as_bytes()).map(|range| range.label());
        assert_eq!((label("step 17"), label("step 1234")), (Some("step #".into()), Some("step #".into())));
        assert_eq!((label("a1b22"), label("später"), label("")), (Some("a#b#".into()), Some("später".into()), None));
    }
}
