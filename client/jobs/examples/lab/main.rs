//! Figures of jobs: how late a program learns of an end and what that costs, by the way it learns. A line of JSON for each run.
//!
//!   lab wait WAY --microseconds 100 [--streams 8] [--spread 50] [--neighbour]      launch, then wait for all
//!   lab flight WAY --microseconds 300 --streams 8 [--spread 50]                    one event loop, jobs launched again as they end
//!   lab alloc WAY --bytes 65536 --streams 16                                       memory of a job
//!   lab switch --library FILE                                                      what a change of the class costs, and begin and end of a job
//!
//! On CUDA; where there is no GPU `--host` has threads of the CPU that sleep for as long as a kernel would take.

#![expect(clippy::print_stdout, reason = "figures, for people and scripts")]

mod device;

use std::{
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use clap::{Parser, ValueEnum};
use device::{Device, Wake};
use gpuos_job::{
    abi,
    class::{Class, ClassOptions, Unknown},
    clock::now,
    context::Context,
    job,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Wait,
    Flight,
    Alloc,
    Switch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// The runtime's wait, looking all the time; in flight, a loop that looks all the time.
    Spin,
    /// The runtime's wait, asleep.
    Block,
    /// A function that the runtime calls, and a descriptor.
    Callback,
    /// A job: its wait, or its deadline in the loop, or its memory.
    Job,
    /// The descriptor of a context of jobs.
    Fd,
    /// The runtime's own allocation.
    Native,
}

/// What is measured, and how.
#[derive(Debug, Parser)]
struct Options {
    mode: Mode,
    #[arg(default_value = "job")]
    way: Way,
    /// How long a kernel takes.
    #[arg(long, default_value_t = 100)]
    microseconds: u64,
    /// By how much that varies, uniformly, % of it.
    #[arg(long, default_value_t = 0)]
    spread: u64,
    /// One in ten takes 30 % of it.
    #[arg(long)]
    short: bool,
    /// Streams with a kernel at a time; of `alloc`, allocations of a job.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Waits, or completions.
    #[arg(long, default_value_t = 1000)]
    iters: u64,
    /// A thread that computes on the same CPU.
    #[arg(long)]
    neighbour: bool,
    /// Lateness that a job's waits may have, ‰.
    #[arg(long, default_value_t = 0)]
    lateness: u32,
    /// While nothing is known, look all the time.
    #[arg(long)]
    eager: bool,
    #[arg(long, default_value_t = 65536)]
    bytes: usize,
    /// Threads of the CPU in place of CUDA.
    #[arg(long)]
    host: bool,
    /// Of `switch`: the shared library, whose functions a program in C calls.
    #[arg(long, default_value = "libgpuos_job.so")]
    library: std::path::PathBuf,
}

type OpenContext = unsafe extern "C" fn(*const abi::gpuos_job_context_options, *mut u64) -> i32;
type OpenClass = unsafe extern "C" fn(u64, *const abi::gpuos_job_class_options, *mut u64) -> i32;

/// A function of the library, with its type of `gpuos_job.h`.
fn find<T: Copy>(library: &libloading::Library, name: &[u8]) -> T {
    // SAFETY: the callers name the types of `gpuos_job.h`; the library is never closed.
    *unsafe { library.get::<T>(name) }.expect("a function of the library")
}

struct Lab {
    options: Options,
    device: Arc<dyn Device>,
    context: Arc<Context>,
    class: Arc<Class>,
    random: u64,
}

/// CPU time of the process and its voluntary switches.
fn used() -> (f64, f64) {
    // SAFETY: plain numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: writes the structure.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let micros = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
    (micros(usage.ru_utime) + micros(usage.ru_stime), usage.ru_nvcsw as f64)
}

impl Lab {
    fn duration(&mut self) -> u64 {
        let usual = self.options.microseconds * 1000;
        // A linear congruential generator: the same durations in every run.
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let draw = (self.random >> 33) % 1000;
        if self.options.short && draw < 100 {
            return usual * 3 / 10;
        }
        let spread = usual * self.options.spread / 100;
        usual - spread + 2 * spread * draw / 1000
    }

    fn begin(&self, stream: usize) -> u64 {
        job::begin(&self.context, &self.class, self.device.stream(stream)).expect("a job begins")
    }

    fn launch_job(&mut self, stream: usize) -> u64 {
        let nanoseconds = self.duration();
        let job = self.begin(stream);
        self.device.launch(stream, nanoseconds);
        job::submit(job).expect("a job is submitted");
        job
    }

    fn wait_once(&mut self, wake: &Wake) {
        let streams = self.options.streams;
        match self.options.way {
            Way::Job => {
                let jobs: Vec<u64> = (0..streams).map(|stream| self.launch_job(stream)).collect();
                for job in jobs {
                    job::wait(job, None).expect("a job ends");
                    job::end(job).expect("an ended job");
                }
            }
            Way::Callback => {
                for stream in 0..streams {
                    let nanoseconds = self.duration();
                    self.device.launch(stream, nanoseconds);
                    self.device.call_back(stream, wake);
                }
                let mut told = 0;
                while told < streams as u64 {
                    wake.wait();
                    told += wake.clear();
                }
            }
            Way::Spin | Way::Block | Way::Fd | Way::Native => {
                for stream in 0..streams {
                    let nanoseconds = self.duration();
                    self.device.launch(stream, nanoseconds);
                }
                (0..streams).for_each(|stream| self.device.synchronize(stream));
            }
        }
    }

    fn waits(&mut self) {
        const WARMUP: u64 = 50;
        let wake = Wake::new();
        let side = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let neighbour = self.options.neighbour.then(|| device::neighbour(&side, &stop));
        let mut latencies = Vec::new();
        let (mut start, mut before, mut side_before) = (0, (0.0, 0.0), 0);
        for number in 0..WARMUP + self.options.iters {
            if number == WARMUP {
                gpuos_phase::switch("work");
                (start, before, side_before) = (now(), used(), side.load(Ordering::Relaxed));
            }
            let began = now();
            self.wait_once(&wake);
            if number >= WARMUP {
                latencies.push(now() - began);
            }
        }
        let (wall, after) = (now() - start, used());
        let side_after = side.load(Ordering::Relaxed);
        gpuos_phase::iterations(self.options.iters);
        gpuos_phase::switch("teardown");
        stop.store(true, Ordering::Relaxed);
        if let Some(neighbour) = neighbour {
            neighbour.join().expect("the neighbour ends");
        }
        latencies.sort_unstable();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize] as f64 / 1e3;
        let each = self.options.iters as f64;
        let stats = self.class.stats();
        println!(
            "{{\"mode\":\"wait\",\"way\":\"{}\",\"us\":{},\"streams\":{},\"spread\":{},\"short\":{},\"neighbour\":{},\"lateness\":{},\"p50_us\":{:.1},\"p99_us\":{:.1},\"cpu_us\":{:.1},\"switches\":{:.2},\"side_per_ms\":{:.0},\"sleeps\":{},\"late\":{},\"blocks\":{},\"naps\":{}}}",
            self.way(),
            self.options.microseconds,
            self.options.streams,
            self.options.spread,
            self.options.short,
            self.options.neighbour,
            self.options.lateness,
            at(0.5),
            at(0.99),
            (after.0 - before.0) / each,
            (after.1 - before.1) / each,
            (side_after - side_before) as f64 / (wall as f64 / 1e6),
            stats.sleeps,
            stats.late,
            stats.blocks,
            stats.naps
        );
    }

    fn way(&self) -> String {
        self.options.way.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn flight(&mut self) {
        let streams = self.options.streams;
        let wake = Wake::new();
        let mut jobs = vec![0; streams];
        let mut began = vec![0; streams];
        let fd = if self.options.way == Way::Fd { self.context.fd().expect("a descriptor") } else { wake.as_raw_fd() };
        let sleeper = device::Sleeper::new(fd);
        let (mut start, mut before, mut ended, mut wakes, mut latency) = (0, (0.0, 0.0), 0_u64, 0_u64, 0_u64);
        let warmup = self.options.iters / 10 + 50 * streams as u64;
        let mut all = 0_u64;
        for stream in 0..streams {
            began[stream] = now();
            jobs[stream] = self.relaunch(stream, &wake);
        }
        let mut done: Vec<usize> = Vec::new();
        while all < warmup + self.options.iters {
            if all >= warmup && start == 0 {
                gpuos_phase::switch("work");
                (start, before, ended, wakes, latency) = (now(), used(), 0, 0, 0);
            }
            match self.options.way {
                Way::Callback => {
                    sleeper.sleep(None);
                    wakes += 1;
                    wake.clear();
                    done.extend(wake.told());
                }
                Way::Fd => {
                    sleeper.sleep(None);
                    wakes += 1;
                }
                Way::Spin => {}
                Way::Job | Way::Block | Way::Native => {
                    if let Some(deadline) = self.context.next_deadline() {
                        wakes += u64::from(sleeper.sleep(Some(deadline)));
                    }
                }
            }
            loop {
                if self.options.way != Way::Callback {
                    for job in self.context.poll(streams) {
                        let stream = jobs.iter().position(|other| *other == job).expect("a job of a stream");
                        job::end(job).expect("an ended job");
                        done.push(stream);
                    }
                }
                let was_told = !done.is_empty();
                for stream in done.drain(..) {
                    let time = now();
                    (ended, all, latency) = (ended + 1, all + 1, latency + (time - began[stream]));
                    began[stream] = time;
                    jobs[stream] = self.relaunch(stream, &wake);
                }
                // A loop with a descriptor sleeps when there is nothing more.
                if self.options.way != Way::Fd || !was_told {
                    break;
                }
            }
        }
        let (wall, after) = ((now() - start) as f64 / 1e3, used());
        gpuos_phase::iterations(ended);
        gpuos_phase::switch("teardown");
        let (each, ideal) = (ended as f64, streams as f64 / self.options.microseconds as f64);
        println!(
            "{{\"mode\":\"flight\",\"way\":\"{}\",\"us\":{},\"streams\":{streams},\"spread\":{},\"lateness\":{},\"of_ideal\":{:.3},\"latency_us\":{:.1},\"cpu_us\":{:.1},\"switches\":{:.2},\"wakes\":{:.2}}}",
            self.way(),
            self.options.microseconds,
            self.options.spread,
            self.options.lateness,
            each / wall / ideal,
            latency as f64 / each / 1e3,
            (after.0 - before.0) / each,
            (after.1 - before.1) / each,
            wakes as f64 / each
        );
        (0..streams).for_each(|stream| self.device.synchronize(stream));
    }

    fn relaunch(&mut self, stream: usize, wake: &Wake) -> u64 {
        if self.options.way != Way::Callback {
            return self.launch_job(stream);
        }
        let nanoseconds = self.duration();
        self.device.launch(stream, nanoseconds);
        self.device.call_back_for(stream, wake);
        0
    }

    /// Memory: what `streams` allocations of a job take and its end, which gives them back, nanoseconds a pair.
    fn alloc(&self) {
        let (batch, bytes) = (self.options.streams, self.options.bytes);
        gpuos_phase::switch("work");
        let mut took = 0;
        for number in 0..self.options.iters + 10 {
            if number == 10 {
                took = 0;
            }
            if self.options.way == Way::Native {
                let start = now();
                let addresses: Vec<u64> =
                    (0..batch).map(|_| self.context.backend.allocate(bytes).expect("memory")).collect();
                addresses.into_iter().for_each(|address| self.context.backend.release(address, bytes));
                took += now() - start;
                continue;
            }
            let job = self.begin(0);
            let start = now();
            for _ in 0..batch {
                job::alloc(job, bytes, 0).expect("memory");
            }
            let allocated = now();
            job::submit(job).expect("a job is submitted");
            job::wait(job, None).expect("a job ends");
            let ends = now();
            job::end(job).expect("an ended job");
            took += allocated - start + (now() - ends);
        }
        let each = took as f64 / self.options.iters as f64 / batch as f64;
        gpuos_phase::iterations(self.options.iters * batch as u64);
        gpuos_phase::switch("teardown");
        println!(
            "{{\"mode\":\"alloc\",\"way\":\"{}\",\"bytes\":{bytes},\"batch\":{batch},\"ns_a_pair\":{each:.1}}}",
            self.way()
        );
    }

    /// What a change of the class costs that a thread works for, nanoseconds: through the C interface, as a program in C has it.
    fn change(&self) -> f64 {
        // SAFETY: a library of our own.
        let library = unsafe { libloading::Library::new(&self.options.library) }.expect("the library");
        let (open, class_open, enter, leave) = (
            find::<OpenContext>(&library, b"gpuos_job_context_open"),
            find::<OpenClass>(&library, b"gpuos_job_class_open"),
            find::<extern "C" fn(u64) -> i32>(&library, b"gpuos_job_enter"),
            find::<extern "C" fn() -> i32>(&library, b"gpuos_job_leave"),
        );
        let options = abi::gpuos_job_context_options {
            size: size_of::<abi::gpuos_job_context_options>() as u64,
            runtime: gpuos_job::backend::Runtime::Host as u32,
            flags: 0,
        };
        let of_class = abi::gpuos_job_class_options {
            size: size_of::<abi::gpuos_job_class_options>() as u64,
            label: c"switch".as_ptr(),
            lateness: 0,
            unknown: 0,
            bytes: 0,
            watchdog: 0,
        };
        let (mut context, mut class) = (0, 0);
        // SAFETY: structures with their sizes, and places for handles.
        let opened = unsafe { open(&raw const options, &raw mut context) };
        // SAFETY: as above.
        let opened_class = unsafe { class_open(context, &raw const of_class, &raw mut class) };
        assert_eq!((opened, opened_class), (0, 0), "a class on the host");
        let changes = 100 * self.options.iters;
        let start = now();
        for _ in 0..changes {
            enter(class);
            leave();
        }
        let took = (now() - start) as f64;
        // Its threads' storage may not go before they do.
        std::mem::forget(library);
        // Going in and coming out are two.
        took / (2 * changes) as f64
    }

    /// What a job costs beside its work, nanoseconds.
    fn switch(&self) {
        let start = now();
        for _ in 0..self.options.iters {
            let job = self.begin(0);
            job::cancel(job).expect("an open job");
            job::end(job).expect("an ended job");
        }
        let open = (now() - start) as f64 / self.options.iters as f64;
        let start = now();
        for _ in 0..self.options.iters {
            let job = self.begin(0);
            job::submit(job).expect("a job is submitted");
            job::wait(job, None).expect("a job ends");
            job::end(job).expect("an ended job");
        }
        let whole = (now() - start) as f64 / self.options.iters as f64;
        let change = self.change();
        println!(
            "{{\"mode\":\"switch\",\"change_ns\":{change:.2},\"begin_end_ns\":{open:.0},\"with_token_ns\":{whole:.0}}}"
        );
    }
}

fn main() {
    let options = Options::parse();
    // What a class that blocks while nothing is known falls back to.
    let is_asleep = options.way == Way::Block || (options.way == Way::Job && !options.eager);
    let device: Arc<dyn Device> = if options.host {
        Arc::new(device::OnHost::new(options.streams))
    } else {
        Arc::new(device::OnCuda::new(options.streams, is_asleep))
    };
    let context = Context::new(device.backend(), false);
    let unknown = if options.eager { Unknown::Spin } else { Unknown::Block };
    let bytes = options.bytes * options.streams;
    let label = "kernels".to_owned();
    let class =
        context.class(ClassOptions { label, lateness: options.lateness, unknown, bytes, ..ClassOptions::default() });
    let mut lab = Lab { options, device, context, class, random: 1 };
    gpuos_job::clock::fine_timers();
    match lab.options.mode {
        Mode::Wait => lab.waits(),
        Mode::Flight => lab.flight(),
        Mode::Alloc => lab.alloc(),
        Mode::Switch => lab.switch(),
    }
}
