//! The thread behind a context's descriptor: sleeps until a job is due, looks, and makes the descriptor readable, once for all
//! that have ended.

use std::{
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread::{self, JoinHandle},
};

use crate::{
    clock::now,
    context::{Context, LEAST_SLEEP},
    error::{Error, Result, Status},
};

/// The thread and its descriptor.
pub(crate) struct Completer {
    descriptor: OwnedFd,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Completer {
    pub(crate) fn start(context: &Arc<Context>) -> Result<Self> {
        // SAFETY: makes a descriptor.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(Error::system("eventfd"));
        }
        // SAFETY: it was just made, and belongs to nobody.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let of_thread = Arc::downgrade(context);
        let thread = without_signals(|| {
            thread::Builder::new().name("gpuos-completer".to_owned()).spawn(move || work(&of_thread))
        })?;
        let thread = thread.map_err(|error| Error::new(Status::System, format!("a thread: {error}")))?;
        Ok(Self { descriptor, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    pub(crate) fn signal(&self) {
        let one = 1_u64;
        // SAFETY: eight bytes of this frame. It cannot be full: it is cleared before it is written again.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    pub(crate) fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: eight bytes of this frame.
        unsafe { libc::read(self.fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }

    pub(crate) fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.join().ok();
        }
    }
}

/// Does something with all signals blocked, which a thread that is made meanwhile inherits: signals are the program's.
fn without_signals<T>(what: impl FnOnce() -> T) -> Result<T> {
    // SAFETY: a set of signals is plain words.
    let [mut all, mut before]: [libc::sigset_t; 2] = unsafe { std::mem::zeroed() };
    // SAFETY: writes the set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: reads one set and writes the other.
    if unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) } != 0 {
        return Err(Error::system("pthread_sigmask"));
    }
    let result = what();
    // SAFETY: reads the set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    Ok(result)
}

fn work(context: &Weak<Context>) {
    while let Some(context) = context.upgrade() {
        if context.is_closed() {
            return;
        }
        let seen = context.bell.look();
        let (ended, next) = context.complete(now());
        if ended > 0 {
            continue;
        }
        match next {
            Some(next) if next < now() + LEAST_SLEEP => std::hint::spin_loop(),
            next => {
                // Without it there is no futex, and looking all the time is what is left.
                context.bell.sleep(seen, next).ok();
                context.completer_woke(next, now());
            }
        }
    }
}
