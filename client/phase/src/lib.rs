//! Marks phases of a program, for `gpuos-trace` to count by.
//!
//! ```
//! gpuos_phase::switch("init");
//! // …
//! gpuos_phase::switch("work");
//! for batch in 0..10 {
//!     let _range = gpuos_phase::thread_range("batch");
//!     // …
//!     gpuos_phase::iterations(1);
//! }
//! gpuos_phase::end();
//! ```
//!
//! A marker is one system call that fails at once (`ioctl` on fd −1): some 170 ns, 250 ns under a tracer.
//! It needs no file, no library and no right; without a tracer it does nothing. `errno` stays as it was. On other systems
//! than Linux it makes no call.
//!
//! Phases belong to the process, so that the helper threads of a runtime work for them: mark them from one thread.
//! A [`thread_range`] belongs to the thread that began it, inside the phase of its process. Up to
//! [`MOST_NESTED`] of each may be open inside each other. Labels are UTF-8 of at most 63 bytes; what is longer
//! is cut.

pub use gpuos_tracer_abi::phases::MOST_NESTED;
use gpuos_tracer_abi::phases::{
    LABEL, Marker, OPERATION_BEGIN, OPERATION_END, OPERATION_ITERATIONS, OPERATION_SWITCH, SCOPE_PROCESS, SCOPE_THREAD,
};

fn mark(operation: u32, scope: u32, count: u64, label: &str) {
    let mut marker = Marker { operation, scope, count, label: [0; LABEL] };
    let cut = label.floor_char_boundary(LABEL - 1);
    for (to, from) in marker.label.iter_mut().zip(&label.as_bytes()[..cut]) {
        *to = *from;
    }
    send(&marker);
}

#[cfg(target_os = "linux")]
fn send(marker: &Marker) {
    // SAFETY: the call has no arguments.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own.
    let before = unsafe { *errno };
    // SAFETY: the call fails before anybody looks at the pointer, a tracer apart, which only reads.
    unsafe { libc::syscall(libc::SYS_ioctl, -1, gpuos_tracer_abi::phases::MARKER, &raw const *marker) };
    // SAFETY: the thread's own.
    unsafe { *errno = before };
}

/// The tracer is of Linux; elsewhere nobody listens.
#[cfg(not(target_os = "linux"))]
fn send(_: &Marker) {}

/// Begins a phase of the process inside the current one.
pub fn begin(label: &str) {
    mark(OPERATION_BEGIN, SCOPE_PROCESS, 0, label);
}

/// Ends the current phase of the process.
pub fn end() {
    mark(OPERATION_END, SCOPE_PROCESS, 0, "");
}

/// Ends the current phase of the process, if there is one, and begins another in its place.
pub fn switch(label: &str) {
    mark(OPERATION_SWITCH, SCOPE_PROCESS, 0, label);
}

/// Says that so many iterations were done in the current phase: counts are then shown per iteration, too.
pub fn iterations(count: u64) {
    mark(OPERATION_ITERATIONS, SCOPE_PROCESS, count, "");
}

/// Begins a phase of this thread alone; the other end of [`thread_end`].
pub fn thread_begin(label: &str) {
    mark(OPERATION_BEGIN, SCOPE_THREAD, 0, label);
}

/// Ends the innermost phase of this thread.
pub fn thread_end() {
    mark(OPERATION_END, SCOPE_THREAD, 0, "");
}

/// A phase of the process that ends when this is dropped.
#[derive(Debug)]
#[must_use = "the phase ends when this is dropped"]
pub struct Phase(());

/// Begins a phase of the process that ends when the result is dropped.
pub fn phase(label: &str) -> Phase {
    begin(label);
    Phase(())
}

impl Drop for Phase {
    fn drop(&mut self) {
        end();
    }
}

/// A phase of one thread that ends when this is dropped, on that thread.
#[derive(Debug)]
#[must_use = "the phase ends when this is dropped"]
pub struct ThreadRange(std::marker::PhantomData<*const ()>);

/// Begins a phase of this thread that ends when the result is dropped.
pub fn thread_range(label: &str) -> ThreadRange {
    thread_begin(label);
    ThreadRange(std::marker::PhantomData)
}

impl Drop for ThreadRange {
    fn drop(&mut self) {
        thread_end();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_marker_leaves_errno_alone_and_cuts_labels_at_characters() {
        // SAFETY: the call has no arguments.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: it is this thread's.
        unsafe { *errno = 77 };
        super::begin(&"é".repeat(50));
        super::end();
        // SAFETY: as above.
        assert_eq!(unsafe { *errno }, 77);
    }
}
