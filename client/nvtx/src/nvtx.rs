//! The functions of NVTX that we take over.
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "it takes the place of functions in C, whose pointers are as NVTX says"
)]

use std::{
    borrow::Cow,
    ffi::{CStr, c_char, c_int, c_void},
};

use crate::ranges;

/// `NvtxGetExportTableFunc_t`.
type GetExportTable = unsafe extern "C" fn(u32) -> *const c_void;
/// `NvtxFunctionTable`: addresses of the places where the program's NVTX looks for its functions.
type FunctionTable = *mut *mut *const c_void;

/// `NvtxExportTableCallbacks`, which has this number.
#[repr(C)]
struct Callbacks {
    size: usize,
    module_table: unsafe extern "C" fn(c_int, *mut FunctionTable, *mut u32) -> c_int,
}
const CALLBACKS: u32 = 1;

/// `nvtxEventAttributes_t`, version 2.
#[repr(C)]
pub(crate) struct Attributes {
    version: u16,
    size: u16,
    category: u32,
    color_type: i32,
    color: u32,
    payload_type: i32,
    reserved: i32,
    payload: u64,
    message_type: i32,
    message: *const c_void,
}
const _: () = assert!(size_of::<Attributes>() == 48);

/// `nvtxMessageType_t`.
const MESSAGE_ASCII: i32 = 1;
const MESSAGE_WIDE: i32 = 2;
const MESSAGE_REGISTERED: i32 = 3;

/// # Safety
/// A string that ends with a NUL, or null.
pub(crate) unsafe fn text<'a>(string: *const c_char) -> Cow<'a, str> {
    // SAFETY: as the caller says.
    if string.is_null() { Cow::Borrowed("") } else { unsafe { CStr::from_ptr(string) }.to_string_lossy() }
}

/// # Safety
/// A string of `wchar_t`, four bytes each on Linux, that ends with a 0, or null.
unsafe fn wide(string: *const u32) -> String {
    if string.is_null() {
        return String::new();
    }
    let unit = |at: usize| {
        // SAFETY: not beyond the 0 that ends it.
        unsafe { string.add(at).read_unaligned() }
    };
    (0..).map(unit).take_while(|unit| *unit != 0).map(|unit| char::from_u32(unit).unwrap_or('\u{fffd}')).collect()
}

/// Behind the handles of domains and registered strings, which we give and are never taken back.
struct Name(String);

/// # Safety
/// A handle that [`handle`] gave, or null.
unsafe fn name<'a>(handle: *const c_void) -> &'a str {
    // SAFETY: as the caller says.
    unsafe { handle.cast::<Name>().as_ref() }.map_or("", |name| &name.0)
}

fn handle(name: String) -> *const c_void {
    Box::into_raw(Box::new(Name(name))).cast()
}

/// The message of an event, behind the name of its domain.
///
/// # Safety
/// Both are as NVTX passes them.
unsafe fn label(domain: *const c_void, attributes: *const Attributes) -> String {
    // SAFETY: as the caller says.
    unsafe {
        let message = match attributes.as_ref() {
            None => Cow::Borrowed(""),
            Some(attributes) => match attributes.message_type {
                MESSAGE_ASCII => text(attributes.message.cast()),
                MESSAGE_WIDE => Cow::Owned(wide(attributes.message.cast())),
                MESSAGE_REGISTERED => Cow::Borrowed(name(attributes.message)),
                _ => Cow::Borrowed(""),
            },
        };
        match name(domain) {
            "" => message.into_owned(),
            domain => format!("{domain}:{message}"),
        }
    }
}

const NONE: *const c_void = std::ptr::null();

/// Functions with the signatures of `nvToolsExt.h`; NVTX calls them with what those headers say.
mod taken_over {
    use super::{Attributes, NONE, c_char, c_int, c_void, handle, label, ranges, text, wide};

    pub(super) unsafe extern "C" fn start_ex(attributes: *const Attributes) -> u64 {
        // SAFETY: NVTX passes attributes.
        ranges::start(&unsafe { label(NONE, attributes) })
    }
    pub(super) unsafe extern "C" fn start_a(message: *const c_char) -> u64 {
        // SAFETY: NVTX passes a string.
        ranges::start(&unsafe { text(message) })
    }
    pub(super) unsafe extern "C" fn start_w(message: *const u32) -> u64 {
        // SAFETY: NVTX passes a string.
        ranges::start(&unsafe { wide(message) })
    }
    pub(super) extern "C" fn end(number: u64) {
        ranges::end(number);
    }
    pub(super) unsafe extern "C" fn push_ex(attributes: *const Attributes) -> c_int {
        // SAFETY: NVTX passes attributes.
        ranges::push(&unsafe { label(NONE, attributes) })
    }
    pub(super) unsafe extern "C" fn push_a(message: *const c_char) -> c_int {
        // SAFETY: NVTX passes a string.
        ranges::push(&unsafe { text(message) })
    }
    pub(super) unsafe extern "C" fn push_w(message: *const u32) -> c_int {
        // SAFETY: NVTX passes a string.
        ranges::push(&unsafe { wide(message) })
    }
    pub(super) extern "C" fn pop() -> c_int {
        ranges::pop()
    }
    pub(super) unsafe extern "C" fn domain_start(domain: *const c_void, attributes: *const Attributes) -> u64 {
        // SAFETY: NVTX passes our handle, and attributes.
        ranges::start(&unsafe { label(domain, attributes) })
    }
    pub(super) extern "C" fn domain_end(_domain: *const c_void, number: u64) {
        ranges::end(number);
    }
    pub(super) unsafe extern "C" fn domain_push(domain: *const c_void, attributes: *const Attributes) -> c_int {
        // SAFETY: NVTX passes our handle, and attributes.
        ranges::push(&unsafe { label(domain, attributes) })
    }
    pub(super) extern "C" fn domain_pop(_domain: *const c_void) -> c_int {
        ranges::pop()
    }
    pub(super) unsafe extern "C" fn register_a(_domain: *const c_void, message: *const c_char) -> *const c_void {
        // SAFETY: NVTX passes a string.
        handle(unsafe { text(message) }.into_owned())
    }
    pub(super) unsafe extern "C" fn register_w(_domain: *const c_void, message: *const u32) -> *const c_void {
        // SAFETY: NVTX passes a string.
        handle(unsafe { wide(message) })
    }
    pub(super) unsafe extern "C" fn create_a(name: *const c_char) -> *const c_void {
        // SAFETY: NVTX passes a string.
        handle(unsafe { text(name) }.into_owned())
    }
    pub(super) unsafe extern "C" fn create_w(name: *const u32) -> *const c_void {
        // SAFETY: NVTX passes a string.
        handle(unsafe { wide(name) })
    }
}

/// Called by every library that carries NVTX, when its first function is called. Returns 1 when we are in.
///
/// # Safety
/// `get_table` is the function that `nvtxInit.h` passes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn InitializeInjectionNvtx2(get_table: GetExportTable) -> c_int {
    use taken_over::{
        create_a, create_w, domain_end, domain_pop, domain_push, domain_start, end, pop, push_a, push_ex, push_w,
        register_a, register_w, start_a, start_ex, start_w,
    };
    // `NvtxCallbackModule` CORE and CORE2; places are `NvtxCallbackIdCore` and `NvtxCallbackIdCore2`.
    let core: [(usize, *const c_void); 8] = [
        (4, start_ex as *const c_void),
        (5, start_a as *const c_void),
        (6, start_w as *const c_void),
        (7, end as *const c_void),
        (8, push_ex as *const c_void),
        (9, push_a as *const c_void),
        (10, push_w as *const c_void),
        (11, pop as *const c_void),
    ];
    let domains: [(usize, *const c_void); 8] = [
        (2, domain_start as *const c_void),
        (3, domain_end as *const c_void),
        (4, domain_push as *const c_void),
        (5, domain_pop as *const c_void),
        (10, register_a as *const c_void),
        (11, register_w as *const c_void),
        (12, create_a as *const c_void),
        (13, create_w as *const c_void),
    ];
    // SAFETY: the tables are as NVTX describes them; a place that it does not have is left alone.
    unsafe {
        let Some(callbacks) = get_table(CALLBACKS).cast::<Callbacks>().as_ref() else { return 0 };
        if callbacks.size < size_of::<Callbacks>() {
            return 0;
        }
        for (module, functions) in [(1, core), (5, domains)] {
            let (mut table, mut length): (FunctionTable, u32) = (std::ptr::null_mut(), 0);
            if (callbacks.module_table)(module, &raw mut table, &raw mut length) == 0 || table.is_null() {
                continue;
            }
            for (place, function) in functions {
                if place < length as usize
                    && let Some(slot) = (*table.add(place)).as_mut()
                {
                    *slot = function;
                }
            }
        }
    }
    1
}
