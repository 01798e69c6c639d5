//! The functions of roctx (`libroctx64`, `librocprofiler-sdk-roctx`), taken over by being loaded before it. Each
//! calls the real one, too, where that is loaded.

use std::ffi::{c_char, c_int, c_void};

use crate::{nvtx::text, ranges};

/// The function that would be called without us.
fn real(name: &'static std::ffi::CStr) -> Option<*mut c_void> {
    // SAFETY: a valid name.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

macro_rules! call_real {
    ($name:literal, ($($kind:ty),*) $(-> $result:ty)?, $($argument:expr),*) => {
        real($name).map(|real| {
            // SAFETY: the function of this name has this type, and gets what we got.
            unsafe {
                let real: unsafe extern "C" fn($($kind),*) $(-> $result)? = std::mem::transmute(real);
                real($($argument),*)
            }
        })
    };
}

/// # Safety
/// As roctx demands: a string that ends with a NUL.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn roctxRangePushA(message: *const c_char) -> c_int {
    // SAFETY: as the caller says.
    let level = ranges::push(&unsafe { text(message) });
    call_real!(c"roctxRangePushA", (*const c_char) -> c_int, message).unwrap_or(level)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn roctxRangePop() -> c_int {
    let level = ranges::pop();
    call_real!(c"roctxRangePop", () -> c_int,).unwrap_or(level)
}

/// # Safety
/// As roctx demands: a string that ends with a NUL.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn roctxRangeStartA(message: *const c_char) -> u64 {
    // SAFETY: as the caller says.
    let label = unsafe { text(message) };
    match call_real!(c"roctxRangeStartA", (*const c_char) -> u64, message) {
        Some(number) => {
            ranges::start_as(number, &label);
            number
        }
        None => ranges::start(&label),
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn roctxRangeStop(number: u64) {
    ranges::end(number);
    call_real!(c"roctxRangeStop", (u64), number);
}
