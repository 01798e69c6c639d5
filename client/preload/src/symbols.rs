//! How a program finds the runtimes' functions: through `dlsym`, which this library takes the place of. A search for any other name is
//! the C library's, called from where the program calls it: what it finds depends on who asks.

use std::{
    ffi::{CStr, c_char, c_void},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    forms::{exchange, is_symbol},
    runtimes,
    waits::is_inside,
};

type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

/// The C library's own; 0 before it was looked for.
static REAL: AtomicUsize = AtomicUsize::new(0);

/// Looks for the C library's own; 0 where there is none.
fn find_real() -> usize {
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

fn real_address() -> usize {
    match REAL.load(Ordering::Acquire) {
        0 => find_real(),
        known => known,
    }
}

fn real() -> Option<Dlsym> {
    let known = real_address();
    // SAFETY: it has this type, and no function is at 0.
    (known != 0).then(|| unsafe { std::mem::transmute::<usize, Dlsym>(known) })
}

/// A function of a library that is loaded.
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

/// A function of NVIDIA's driver, where that is loaded.
pub(crate) fn of_driver(name: &CStr) -> Option<*mut c_void> {
    of_library(c"libcuda.so.1", name)
}

/// The address of the `dlsym` to go on with: this library's for a name of a runtime's function that it replaces, else the C
/// library's; 0 where there is none.
extern "C" fn dlsym_for(handle: *mut c_void, name: *const c_char) -> usize {
    // SAFETY: the C library reads it as well.
    let is_ours = handle != libc::RTLD_NEXT && !name.is_null() && is_symbol(unsafe { CStr::from_ptr(name) });
    if is_ours && !is_inside() { found as *const () as usize } else { real_address() }
}

/// In place of the C library's. It goes on by a jump, so that the C library sees who asks.
///
/// # Safety
/// As the C library's.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    std::arch::naked_asm!(
        "push rdi",
        "push rsi",
        "sub rsp, 8", // the stack is aligned for a call
        "call {dlsym_for}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "test rax, rax",
        "je 2f",
        "jmp rax",
        "2:",
        "ret",
        dlsym_for = sym dlsym_for,
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
        "stp x29, x30, [sp, #-32]!",
        "stp x0, x1, [sp, #16]",
        "bl {dlsym_for}",
        "mov x16, x0",
        "ldp x0, x1, [sp, #16]",
        "ldp x29, x30, [sp], #32",
        "cbz x16, 2f",
        "br x16",
        "2:",
        "mov x0, #0",
        "ret",
        dlsym_for = sym dlsym_for,
    )
}

/// What `dlsym` finds, exchanged where it is the driver's.
unsafe extern "C" fn found(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    let Some(real) = real() else { return std::ptr::null_mut() };
    // SAFETY: as the program calls it.
    let found = unsafe { real(handle, name) };
    if found.is_null() {
        return found;
    }
    // SAFETY: the C library has read it.
    let name = unsafe { CStr::from_ptr(name) };
    // Another library may have something of that name, and it need not be a function.
    if !runtimes::has(name, found) {
        return found;
    }
    name.to_str().map_or(found, |name| exchange(name, found as usize, false) as *mut c_void)
}
