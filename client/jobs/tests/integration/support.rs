//! Streams whose operations a test holds back.

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicU32, Ordering},
};

use gpuos_job::{
    backend::{
        Stream,
        host::{self, Host},
    },
    class::{Class, ClassOptions},
    context::Context,
};

/// A gate: operations wait until it was opened for them.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<u32>, Condvar)>);

impl Gate {
    /// Lets one operation through.
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut open = self.0.1.wait_while(self.0.0.lock().unwrap(), |open| *open == 0).unwrap();
        *open -= 1;
    }
}

/// A stream of the host, closed at the end.
pub(crate) struct TestStream(pub(crate) Stream);

impl TestStream {
    pub(crate) fn new() -> Self {
        Self(host::open().unwrap())
    }

    /// An operation that returns `code` when the gate lets it through.
    pub(crate) fn gated(&self, gate: &Gate, code: i32) {
        let gate = gate.clone();
        host::launch(
            self.0,
            Arc::new(move || {
                gate.pass();
                code
            }),
        )
        .unwrap();
    }

    /// An operation that sleeps for so many nanoseconds.
    pub(crate) fn sleeps(&self, nanoseconds: u64) {
        let operation = move || {
            gpuos_job::clock::sleep_until(gpuos_job::clock::now() + nanoseconds);
            0
        };
        host::launch(self.0, Arc::new(operation)).unwrap();
    }

    /// An operation that counts.
    pub(crate) fn counts(&self, count: &Arc<AtomicU32>) {
        let count = Arc::clone(count);
        let operation = move || {
            count.fetch_add(1, Ordering::SeqCst);
            0
        };
        host::launch(self.0, Arc::new(operation)).unwrap();
    }
}

impl Drop for TestStream {
    fn drop(&mut self) {
        host::close(self.0).ok();
    }
}

/// A context with one class.
pub(crate) fn context(options: ClassOptions, debug: bool) -> (Arc<Context>, Arc<Class>) {
    let context = Context::new(Box::new(Host), debug);
    let class = context.class(options);
    (context, class)
}
