//! Two classes of jobs on one device, for `cargo xtask demo --jobs`: short ones, as requests are, and long ones with much memory.
//! `classes host|opencl SECONDS`.

mod opencl;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gpuos_job::{
    backend::{
        Backend, Stream,
        host::{self, Host},
        opencl::OpenCl,
    },
    class::ClassOptions,
    clock,
    context::Context,
    job,
};
use libloading::Library;

/// Something that has a stream and takes work.
trait Device {
    fn backend(&self) -> Box<dyn Backend>;
    fn stream(&self) -> Stream;
    /// Queues work on memory of a job, and gives what is to be done when that has ended.
    fn launch(&self, memory: u64, bytes: usize) -> Box<dyn FnOnce() + '_>;
}

/// Threads of the CPU, which sleep for a time in proportion to the memory.
struct OnHost(Stream);

impl Device for OnHost {
    fn backend(&self) -> Box<dyn Backend> {
        Box::new(Host)
    }

    fn stream(&self) -> Stream {
        self.0
    }

    fn launch(&self, _memory: u64, bytes: usize) -> Box<dyn FnOnce()> {
        // A byte a tenth of a nanosecond.
        let nanoseconds = bytes as u64 / 10;
        let work = move || {
            clock::sleep_until(clock::now() + nanoseconds);
            0
        };
        host::launch(self.0, Arc::new(work)).expect("the work begins");
        Box::new(|| ())
    }
}

/// The first device of OpenCL, which fills the memory.
struct OnOpenCl {
    library: Library,
    context: opencl::Handle,
    queue: opencl::Handle,
}

impl Device for OnOpenCl {
    fn backend(&self) -> Box<dyn Backend> {
        Box::new(OpenCl::load("libOpenCL.so.1").expect("OpenCL"))
    }

    fn stream(&self) -> Stream {
        Stream(self.queue as u64)
    }

    fn launch(&self, memory: u64, bytes: usize) -> Box<dyn FnOnce() + '_> {
        let buffer = opencl::fill(&self.library, (self.context, self.queue), memory, bytes, 1);
        Box::new(move || opencl::release(&self.library, buffer))
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let seconds = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(2);
    let device: Box<dyn Device> = match words.first().map(String::as_str) {
        Some("host") => Box::new(OnHost(host::open().expect("a stream"))),
        Some("opencl") => {
            // SAFETY: OpenCL's loader.
            let library = unsafe { Library::new("libOpenCL.so.1") }.expect("OpenCL's loader");
            let (context, queue) = opencl::queue(&library);
            Box::new(OnOpenCl { library, context, queue })
        }
        _ => panic!("usage: classes host|opencl SECONDS"),
    };
    let context = Context::new(device.backend(), false);
    let classes = [("requests", 4 << 20), ("batches", 32 << 20)].map(|(label, bytes)| {
        (context.class(ClassOptions { label: label.to_owned(), bytes, ..ClassOptions::default() }), bytes)
    });
    let end = Instant::now() + Duration::from_secs(seconds);
    for number in 0_u64.. {
        if Instant::now() >= end {
            break;
        }
        let (class, bytes) = &classes[usize::from(number % 4 == 3)];
        let job = job::begin(&context, class, device.stream()).expect("a job begins");
        let memory = job::alloc(job, *bytes, 4096).expect("memory");
        let done = device.launch(memory, *bytes);
        job::submit(job).expect("it is submitted");
        job::wait(job, None).expect("it ends");
        done();
        job::end(job).expect("it is ended");
    }
}
