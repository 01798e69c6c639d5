//! What the programs in the kernel say of their work, on standard error: only with the feature `bpf-log`, whose object
//! `cargo xtask build-ebpf --log` makes.

use std::{
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use aya_log::EbpfLogger;
use log::{LevelFilter, Log, Metadata, Record};

use super::{bpf_syscall, error::LoadError};
use gpuos_host::diagnostics;

/// How often the kernel's messages are read.
const INTERVAL: Duration = Duration::from_millis(50);

/// The level as the programs compare it: 1 is errors only, 5 is everything.
pub(super) fn number_of(level: Option<LevelFilter>) -> u8 {
    level.unwrap_or(LevelFilter::Off) as u8
}

/// Reads the messages of a program and all that share its log, until it is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// # Errors
    /// [`LoadError::Other`] when the program has no log.
    pub(super) fn begin(program: BorrowedFd<'_>) -> Result<Self, LoadError> {
        let step = |reason: String| LoadError::Other { what: "reading the programs' log", reason };
        let id = bpf_syscall::facts_of(program).map_err(|error| step(error.to_string()))?.id;
        let mut logger = EbpfLogger::init_from_id_with_logger(id, Teller).map_err(|error| step(error.to_string()))?;
        let ends = Arc::new(AtomicBool::new(false));
        let thread = {
            let ends = ends.clone();
            std::thread::Builder::new().name("gpuos-log".to_owned()).spawn(move || {
                loop {
                    let is_last = ends.load(Ordering::Acquire);
                    logger.flush();
                    if is_last {
                        return;
                    }
                    std::thread::park_timeout(INTERVAL);
                }
            })
        }
        .map_err(|error| step(error.to_string()))?;
        Ok(Self { ends, thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Prints every message that comes: the programs know the level.
#[derive(Clone, Copy, Debug)]
struct Teller;

impl Log for Teller {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        diagnostics::report(&format!("bpf {}: {}", record.level().as_str().to_lowercase(), record.args()));
    }

    fn flush(&self) {}
}
