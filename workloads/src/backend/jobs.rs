//! `--via`: a backend whose work goes through jobs of `gpuos-job`. What is issued between two waits is a job of each stream; its
//! wait can be the library's, and memory that lives for an iteration can be the job's. The workload is the same one.

use std::sync::Arc;

use gpuos_job::{
    backend::{Backend as Runtime, Stream},
    class::{Class, ClassOptions, Unknown},
    context::Context,
    error::Error,
    identity, job,
};

use super::{Backend, BackendError, Capabilities, Description, Kernel, Pinned, Probe};
use crate::workload::{Lifetime, Memory, Parts, Setup, Workload};

/// What jobs need of a backend.
pub(crate) struct Underneath {
    /// The same runtime, as the library has it.
    pub(crate) runtime: Box<dyn Runtime>,
    /// The backend's streams, in its order.
    pub(crate) streams: Vec<Stream>,
}

/// A backend, and the jobs that its work belongs to.
pub(crate) struct Jobs<B> {
    backend: B,
    parts: Parts,
    /// Memory of an iteration is the job's.
    lends: bool,
    /// Iterations allocate.
    allocates: bool,
    context: Arc<Context>,
    class: Arc<Class>,
    streams: Vec<Stream>,
    /// Of each stream the job that is issued.
    open: Vec<Option<u64>>,
    /// The thread is said to work for the class, without a job.
    is_inside: bool,
    /// Buffers of the job of stream 0 that the workload holds.
    held: usize,
    /// Since the last wait something was issued.
    is_busy: bool,
}

/// Memory of the backend, or of a job.
pub(crate) struct Buffer<T> {
    memory: T,
    is_lent: bool,
}

fn refused<B: Backend>(call: &'static str) -> impl Fn(Error) -> BackendError {
    move |error| BackendError::Call { backend: B::NAME, call, reason: error.to_string() }
}

impl<B: Backend> Jobs<B> {
    /// Puts jobs on top of a backend, for the parts of them that the workload asks for.
    pub(crate) fn over(backend: B, workload: &Workload, parts: Parts) -> Result<Self, BackendError> {
        let Underneath { runtime, streams } = backend.underneath()?;
        let context = Context::new(runtime, false);
        // A wait of which nothing is known looks, as a runtime's own wait does.
        let label = workload.model.name().to_owned();
        let class = context.class(ClassOptions { label, unknown: Unknown::Spin, ..ClassOptions::default() });
        let open = vec![None; streams.len()];
        let allocates = workload.lifetime == Lifetime::PerIter;
        let lends = parts.arena && allocates && workload.memory == Memory::Device;
        Ok(Self {
            backend,
            parts,
            lends,
            allocates,
            context,
            class,
            streams,
            open,
            is_inside: false,
            held: 0,
            is_busy: false,
        })
    }

    /// The job of what is issued in a stream next; with identity alone, the thread says what it works for.
    fn issues(&mut self, stream: usize) -> Result<(), BackendError> {
        self.is_busy = true;
        if self.parts.completion || self.lends {
            self.job(stream)?;
        } else {
            self.enter();
        }
        Ok(())
    }

    fn enter(&mut self) {
        if self.parts.identity && !self.is_inside {
            self.class.enter();
            self.is_inside = true;
        }
    }

    fn job(&mut self, stream: usize) -> Result<u64, BackendError> {
        if let Some(job) = self.open[stream] {
            return Ok(job);
        }
        let job =
            job::begin(&self.context, &self.class, self.streams[stream]).map_err(refused::<B>("begin of a job"))?;
        self.open[stream] = Some(job);
        Ok(job)
    }

    /// Waits for all jobs that are open, and ends them.
    fn end(&mut self) -> Result<(), BackendError> {
        let open = || self.open.iter().flatten().copied();
        open().try_for_each(|job| job::submit(job).map_err(refused::<B>("submission of a job")))?;
        open().try_for_each(|job| {
            job::wait(job, None).map_err(refused::<B>("wait for a job"))?;
            job::end(job).map_err(refused::<B>("end of a job"))
        })?;
        self.open.fill(None);
        self.is_busy = false;
        Ok(())
    }
}

impl<B: Backend> Backend for Jobs<B> {
    type Buffer = Buffer<B::Buffer>;
    type Graph = B::Graph;
    const NAME: &'static str = B::NAME;
    const CAPABILITIES: Capabilities = B::CAPABILITIES;

    fn probe() -> Result<Probe, BackendError> {
        B::probe()
    }

    fn open(setup: &Setup) -> Result<Self, BackendError> {
        let plain = Workload { setup: setup.clone(), ..Workload::new(crate::workload::Model::Kernel, 4, 0, 0) };
        Self::over(B::open(setup)?, &plain, Parts::default())
    }

    fn describe(&self) -> Description {
        self.backend.describe()
    }

    fn allocate(&mut self, memory: Memory, bytes: usize) -> Result<Self::Buffer, BackendError> {
        if !self.lends {
            // What lives longer than an iteration is of none.
            if self.allocates {
                self.enter();
            }
            return Ok(Buffer { memory: self.backend.allocate(memory, bytes)?, is_lent: false });
        }
        let job = self.job(0)?;
        let address = job::alloc(job, bytes, 0).map_err(refused::<B>("memory of a job"))?;
        self.held += 1;
        Ok(Buffer { memory: self.backend.borrow(address, bytes)?, is_lent: true })
    }

    fn free(&mut self, buffer: Self::Buffer) -> Result<(), BackendError> {
        if !buffer.is_lent {
            return self.backend.free(buffer.memory);
        }
        // It goes back with its job. Where nothing was issued that is now.
        self.held -= 1;
        if self.held == 0 && !self.is_busy { self.end() } else { Ok(()) }
    }

    fn clear(&mut self, buffer: &mut Self::Buffer) -> Result<(), BackendError> {
        self.backend.clear(&mut buffer.memory)
    }

    fn launch(&mut self, stream: usize, array: &Self::Buffer, kernel: Kernel) -> Result<(), BackendError> {
        self.issues(stream)?;
        self.backend.launch(stream, &array.memory, kernel)
    }

    fn wait(&mut self) -> Result<(), BackendError> {
        // A job whose memory the workload holds goes on: what it has issued is waited for by the runtime.
        if !self.parts.completion || self.held > 0 || self.open.iter().all(Option::is_none) {
            self.backend.wait()?;
        }
        if self.is_inside {
            identity::leave();
            self.is_inside = false;
        }
        // Memory that the workload holds is its job's until it is freed.
        if self.held == 0 {
            return self.end();
        }
        self.is_busy = false;
        Ok(())
    }

    unsafe fn copy_in(&mut self, stream: usize, from: &[u32], to: &Self::Buffer) -> Result<(), BackendError> {
        self.issues(stream)?;
        // SAFETY: as the caller promises.
        unsafe { self.backend.copy_in(stream, from, &to.memory) }
    }

    unsafe fn copy_out(&mut self, stream: usize, from: &Self::Buffer, into: &mut [u32]) -> Result<(), BackendError> {
        self.issues(stream)?;
        // SAFETY: as the caller promises.
        unsafe { self.backend.copy_out(stream, &from.memory, into) }
    }

    fn is_in_host_memory(&self) -> bool {
        self.backend.is_in_host_memory()
    }

    fn allocate_pinned(&mut self, words: usize) -> Result<Pinned, BackendError> {
        self.backend.allocate_pinned(words)
    }

    fn free_pinned(&mut self, array: Pinned) -> Result<(), BackendError> {
        self.backend.free_pinned(array)
    }

    fn begin_graph(&mut self, stream: usize) -> Result<(), BackendError> {
        self.backend.begin_graph(stream)
    }

    fn end_graph(&mut self, stream: usize) -> Result<Self::Graph, BackendError> {
        self.backend.end_graph(stream)
    }

    fn launch_graph(&mut self, stream: usize, graph: &Self::Graph) -> Result<(), BackendError> {
        self.issues(stream)?;
        self.backend.launch_graph(stream, graph)
    }
}
