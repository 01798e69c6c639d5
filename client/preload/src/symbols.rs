//! How a program finds the driver's functions: through `dlsym`, which this library takes the place of.

use std::{
    ffi::{CStr, c_char, c_void},
    sync::OnceLock,
};

use crate::{forms::exchange, waits::is_inside};

type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

/// The C library's own.
fn real() -> Option<Dlsym> {
    static REAL: OnceLock<Option<Dlsym>> = OnceLock::new();
    *REAL.get_or_init(|| {
        // Its version differs between releases and architectures of the C library.
        const VERSIONS: [&CStr; 4] = [c"GLIBC_2.34", c"GLIBC_2.17", c"GLIBC_2.2.5", c"GLIBC_2.0"];
        VERSIONS.into_iter().find_map(|version| {
            // SAFETY: two names that are closed by a 0.
            let found = unsafe { libc::dlvsym(libc::RTLD_NEXT, c"dlsym".as_ptr(), version.as_ptr()) };
            // SAFETY: it has this type.
            (!found.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, Dlsym>(found) })
        })
    })
}

/// A function of the driver that is loaded.
pub(crate) fn of_driver(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: loads nothing.
    let driver = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    if driver.is_null() {
        return None;
    }
    // SAFETY: the library is loaded, the name is closed by a 0.
    let found = unsafe { real()?(driver, name.as_ptr()) };
    // SAFETY: the program keeps it loaded; this gives back what `dlopen` counted.
    unsafe { libc::dlclose(driver) };
    (!found.is_null()).then_some(found)
}

/// In place of the C library's: what is the driver's is exchanged for a place of this library.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    let Some(real) = real() else { return std::ptr::null_mut() };
    // SAFETY: as the program calls it.
    let found = unsafe { real(handle, name) };
    if found.is_null() || name.is_null() || is_inside() {
        return found;
    }
    // SAFETY: the C library has read it.
    let Ok(name) = unsafe { CStr::from_ptr(name) }.to_str() else { return found };
    if !name.starts_with("cu") {
        return found;
    }
    exchange(name, found as usize, false) as *mut c_void
}
