//! The NVTX range that a thread is in, where `libgpuos_nvtx.so` has taken NVTX over: what is launched in one is told by its label.

use std::{
    ffi::{CString, c_char},
    os::unix::ffi::OsStrExt as _,
    sync::OnceLock,
};

use gpuos_tracer_abi::phases::LABEL;

use crate::symbols;

/// A label, without more bytes than the system sees of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    label: [u8; LABEL],
    length: usize,
}

type OfThread = unsafe extern "C" fn(*mut c_char, usize) -> usize;

/// The function of the library that NVTX was told of; it is loaded with the first range.
fn of_library() -> Option<OfThread> {
    static FILE: OnceLock<Option<CString>> = OnceLock::new();
    static FOUND: OnceLock<OfThread> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let path = std::env::var_os("NVTX_INJECTION64_PATH")?;
        CString::new(path.as_bytes()).ok()
    });
    let file = file.as_ref()?;
    FOUND.get().copied().or_else(|| {
        let found = symbols::of_library(file, c"gpuos_nvtx_range")?;
        // SAFETY: it has this type.
        let found: OfThread = unsafe { std::mem::transmute(found) };
        Some(*FOUND.get_or_init(|| found))
    })
}

impl Range {
    /// The innermost of this thread.
    pub(crate) fn innermost() -> Option<Self> {
        let of_thread = of_library()?;
        let mut label = [0; LABEL];
        // SAFETY: there is room for as many bytes.
        let length = unsafe { of_thread(label.as_mut_ptr().cast(), LABEL - 1) }.min(LABEL - 1);
        (length > 0).then_some(Self { label, length })
    }

    /// Its label.
    pub(crate) fn label(&self) -> String {
        String::from_utf8_lossy(&self.label[..self.length]).into_owned()
    }

    /// What tells it from others, besides what was launched.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.label[..self.length]
    }
}
