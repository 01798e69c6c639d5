//! Structures of C programs, which begin with their size and may be of another version, and places for results.

use crate::error::{Error, Result, Status};

/// An argument that is none.
pub(crate) fn invalid(what: impl Into<String>) -> Error {
    Error::new(Status::Invalid, what)
}

/// Writes a result.
///
/// # Safety
/// `to` is null, or points to a place for a `T`.
pub(crate) unsafe fn give<T>(to: *mut T, value: T, name: &str) -> Result<()> {
    if to.is_null() {
        return Err(invalid(format!("`{name}` is null")));
    }
    // SAFETY: as the caller promises.
    unsafe { to.write(value) };
    Ok(())
}

/// Reads options that may be of another version: what a shorter one lacks is 0, what a longer one has beyond must be.
///
/// # Safety
/// `from` is null, or begins with its size, and has as many bytes.
pub(crate) unsafe fn options<T: Copy>(from: *const T, least: usize, name: &str) -> Result<T> {
    if from.is_null() {
        return Err(invalid(format!("`{name}` is null")));
    }
    // SAFETY: it begins with its size, as the caller promises.
    let size = unsafe { from.cast::<u64>().read_unaligned() } as usize;
    if size < least || size > 4096 {
        return Err(invalid(format!("`{name}.size` is {size}")));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: the caller has that many bytes.
    let given = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), size) };
    // SAFETY: all zeros are a value of every structure here.
    let mut value: T = unsafe { std::mem::zeroed() };
    // SAFETY: no more is copied than either side has.
    unsafe { std::ptr::copy_nonoverlapping(given.as_ptr(), (&raw mut value).cast::<u8>(), known) };
    if given[known..].iter().any(|byte| *byte != 0) {
        return Err(invalid(format!("`{name}` has a field that this version of the library does not know")));
    }
    Ok(value)
}

/// Writes a structure that may be of another version: as many bytes as its size says.
///
/// # Safety
/// As [`options`], and it may be written.
pub(crate) unsafe fn fill<T: Copy>(to: *mut T, value: T, name: &str) -> Result<()> {
    if to.is_null() {
        return Err(invalid(format!("`{name}` is null")));
    }
    // SAFETY: as the caller promises.
    let size = unsafe { to.cast::<u64>().read_unaligned() } as usize;
    if !(size_of::<u64>()..=4096).contains(&size) {
        return Err(invalid(format!("`{name}.size` is {size}")));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: no more is written than either side has.
    unsafe { std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), to.cast::<u8>(), known) };
    // SAFETY: as above; what the program said stays.
    unsafe { to.cast::<u64>().write_unaligned(size as u64) };
    Ok(())
}
