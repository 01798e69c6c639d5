//! How a program finds the driver's functions: through `dlsym`, which this library takes the place of, or because it is linked with
//! the driver, whose functions [`linked`](crate::linked) exports in its place.

use std::{
    ffi::{CStr, c_char, c_void},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{forms::exchange, hip, linked, waits::is_inside};

type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

/// The C library's own; 0 before it was looked for.
static REAL: AtomicUsize = AtomicUsize::new(0);

/// Looks for the C library's own; null where there is none.
extern "C" fn find_real() -> usize {
    // Its version differs between releases and architectures of the C library.
    const VERSIONS: [&CStr; 4] = [c"GLIBC_2.34", c"GLIBC_2.17", c"GLIBC_2.2.5", c"GLIBC_2.0"];
    let found = VERSIONS.into_iter().find_map(|version| {
        // SAFETY: two names that are closed by a 0.
        let found = unsafe { libc::dlvsym(libc::RTLD_NEXT, c"dlsym".as_ptr(), version.as_ptr()) };
        (!found.is_null()).then_some(found as usize)
    });
    let found = found.unwrap_or_default();
    REAL.store(found, Ordering::Release);
    found
}

fn real() -> Option<Dlsym> {
    let known = match REAL.load(Ordering::Acquire) {
        0 => find_real(),
        known => known,
    };
    // SAFETY: it has this type, and no function is at 0.
    (known != 0).then(|| unsafe { std::mem::transmute::<usize, Dlsym>(known) })
}

/// A function of a library that is loaded, as the library has it.
pub(crate) fn of_library(file: &CStr, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: loads nothing.
    let library = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    if library.is_null() {
        return None;
    }
    // SAFETY: the library is loaded, the name is closed by a 0.
    let found = unsafe { real()?(library, name.as_ptr()) };
    // SAFETY: the program keeps it loaded; this gives back what `dlopen` counted.
    unsafe { libc::dlclose(library) };
    (!found.is_null()).then_some(found)
}

/// A function of the driver that is loaded.
pub(crate) fn of_driver(name: &CStr) -> Option<*mut c_void> {
    of_library(c"libcuda.so.1", name)
}

/// The function that a program would have got for a name without this library.
pub(crate) fn next(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is closed by a 0; who asks is this library.
    let found = unsafe { real()?(libc::RTLD_NEXT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// In place of the C library's: what is the driver's is exchanged for a place of this library. `RTLD_NEXT` is relative to who
/// asks, so that the C library itself has to be called from there: by a jump.
///
/// # Safety
/// As the C library's.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    std::arch::naked_asm!(
        "cmp rdi, -1", // RTLD_NEXT
        "jne {found}",
        "mov rax, qword ptr [rip + {real}]",
        "test rax, rax",
        "jne 2f",
        "push rdi",
        "push rsi",
        "sub rsp, 8",
        "call {find_real}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "test rax, rax",
        "je 3f",
        "2:",
        "jmp rax",
        "3:",
        "ret",
        found = sym found,
        real = sym REAL,
        find_real = sym find_real,
    )
}

/// See above: the same on 64-bit Arm.
///
/// # Safety
/// As the C library's.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    std::arch::naked_asm!(
        "cmn x0, #1", // RTLD_NEXT
        "b.ne {found}",
        "stp x29, x30, [sp, #-32]!",
        "stp x0, x1, [sp, #16]",
        "bl {find_real}",
        "mov x16, x0",
        "ldp x0, x1, [sp, #16]",
        "ldp x29, x30, [sp], #32",
        "cbz x16, 3f",
        "br x16",
        "3:",
        "mov x0, #0",
        "ret",
        found = sym found,
        find_real = sym find_real,
    )
}

/// What `dlsym` finds, exchanged where it is the driver's.
unsafe extern "C" fn found(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    let Some(real) = real() else { return std::ptr::null_mut() };
    // SAFETY: as the program calls it.
    let found = unsafe { real(handle, name) };
    if found.is_null() || name.is_null() || is_inside() {
        return found;
    }
    // SAFETY: the C library has read it.
    let name = unsafe { CStr::from_ptr(name) };
    let Ok(text) = name.to_str() else { return found };
    // One of this library's, found by a search of everything, is exchanged for what the program would have found without it.
    let found =
        if linked::has(found) || hip::has(text, found) { next(name).unwrap_or(std::ptr::null_mut()) } else { found };
    if found.is_null() {
        return found;
    }
    if text.starts_with("cu") {
        exchange(text, found as usize, false) as *mut c_void
    } else {
        hip::of(text).unwrap_or(found)
    }
}
