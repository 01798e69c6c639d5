//! A backend without a runtime: memory is one `mmap`, a kernel is a loop, a wait is nothing. Every system call is known
//! beforehand, so tracers and analyses are checked with it.

use std::{
    ptr::{self, NonNull},
    time::{Duration, Instant},
};

use gpuos_job::backend::host;

use super::{Backend, BackendError, Capabilities, Description, Kernel, Probe, Underneath, no_such_device};
use crate::workload::{Memory, Setup};

const NAME: &str = "host";
const RUNTIME: &str = "no runtime";
const DEVICE: &str = "this CPU";

/// Nothing to hold.
pub(crate) struct Host;

/// One mapping; `mmap` when allocated, `munmap` when freed.
pub(crate) struct Mapping {
    pointer: NonNull<u32>,
    bytes: usize,
}

impl Mapping {
    fn words(&self) -> usize {
        self.bytes / 4
    }
}

impl Backend for Host {
    type Buffer = Mapping;
    type Graph = std::convert::Infallible;
    const NAME: &'static str = NAME;
    const CAPABILITIES: Capabilities = Capabilities { durations: true, ..Capabilities::PLAIN };

    fn probe() -> Result<Probe, BackendError> {
        Ok(Probe { library: None, runtime: RUNTIME.to_owned(), devices: vec![DEVICE.to_owned()] })
    }

    fn open(setup: &Setup) -> Result<Self, BackendError> {
        if setup.device > 0 {
            return Err(no_such_device(NAME, setup.device, 1));
        }
        Ok(Self)
    }

    fn describe(&self) -> Description {
        Description { name: NAME, runtime: RUNTIME.to_owned(), device: DEVICE.to_owned() }
    }

    fn is_in_host_memory(&self) -> bool {
        true
    }

    fn allocate(&mut self, _: Memory, bytes: usize) -> Result<Mapping, BackendError> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the kernel likes.
        let pointer = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if pointer == libc::MAP_FAILED {
            let reason = match std::io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EINVAL) => "INVALID_BUFFER_SIZE".to_owned(),
                error => error.to_string(),
            };
            return Err(BackendError::Call { backend: NAME, call: "mmap", reason });
        }
        Ok(Mapping { pointer: NonNull::new(pointer.cast()).expect("no mapping is at address 0"), bytes })
    }

    fn free(&mut self, buffer: Mapping) -> Result<(), BackendError> {
        // SAFETY: the mapping is ours, and this is its end.
        match unsafe { libc::munmap(buffer.pointer.as_ptr().cast(), buffer.bytes) } {
            0 => Ok(()),
            _ => Err(BackendError::Call {
                backend: NAME,
                call: "munmap",
                reason: std::io::Error::last_os_error().to_string(),
            }),
        }
    }

    fn clear(&mut self, buffer: &mut Mapping) -> Result<(), BackendError> {
        // SAFETY: the mapping has so many bytes, and nobody else uses it.
        unsafe { buffer.pointer.as_ptr().cast::<u8>().write_bytes(0, buffer.bytes) };
        Ok(())
    }

    fn launch(&mut self, _: usize, array: &Mapping, kernel: Kernel) -> Result<(), BackendError> {
        let start = Instant::now();
        let words = (kernel.words as usize).min(array.words());
        // SAFETY: the mapping has so many words, and nobody else uses it.
        for word in unsafe { std::slice::from_raw_parts_mut(array.pointer.as_ptr(), words) } {
            *word = word.wrapping_add(kernel.amount);
        }
        let duration = Duration::from_micros(kernel.duration_us.into());
        while start.elapsed() < duration {
            std::hint::spin_loop();
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// A stream of the library: a thread that writes the token at once, since a kernel is done when `launch` returns.
    fn underneath(&self) -> Result<Underneath, BackendError> {
        let stream = host::open().map_err(|error| BackendError::Call {
            backend: NAME,
            call: "a stream of the host",
            reason: error.to_string(),
        })?;
        Ok(Underneath { runtime: Box::new(host::Host), streams: vec![stream] })
    }

    fn borrow(&self, address: u64, bytes: usize) -> Result<Mapping, BackendError> {
        let pointer = NonNull::new(address as *mut u32).expect("memory of a job has an address");
        Ok(Mapping { pointer, bytes })
    }

    unsafe fn copy_in(&mut self, _: usize, from: &[u32], to: &Mapping) -> Result<(), BackendError> {
        // SAFETY: both have the same length.
        unsafe { to.pointer.as_ptr().copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }

    unsafe fn copy_out(&mut self, _: usize, from: &Mapping, into: &mut [u32]) -> Result<(), BackendError> {
        // SAFETY: both have the same length.
        unsafe { from.pointer.as_ptr().copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
        Ok(())
    }
}
