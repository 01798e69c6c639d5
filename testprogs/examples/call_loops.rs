//! Loops of system calls that time themselves: `call_loops WHAT`. Prints nanoseconds a call, the median
//! of many short chunks, which leaves out what else the machine did. For `cargo xtask bench overhead`.
#![expect(clippy::disallowed_methods, reason = "a test program")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    clippy::print_stdout,
    reason = "a test program makes its calls plainly, and says what it did"
)]

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use gpuos_job::{
    backend::host::Host,
    class::{Class, ClassOptions},
    context::Context,
    identity,
};

const CHUNKS: usize = 60;
/// No chunk lasts longer, however slow the tracer is.
const LONGEST: Duration = Duration::from_millis(20);

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Commands of AMD's compute driver that need no GPU: `AMDKFD_IOC_GET_VERSION`, and `AMDKFD_IOC_ALLOC_MEMORY_OF_GPU` for a GPU
/// that is not there, of whose argument the tracer reads a word.
const KFD_VERSION: usize = 0x8008_4b01;
const KFD_ALLOC: usize = 0xc028_4b16;

/// Nanoseconds a call, in chunks of at most `calls`.
fn time(calls: usize, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let fit = std::iter::repeat_with(&mut work).take(calls).take_while(|()| start.elapsed() < LONGEST).count();
    let calls = fit.max(1);
    let chunk = || {
        let start = Instant::now();
        for _ in 0..calls {
            work();
        }
        start.elapsed().as_nanos() as f64 / calls as f64
    };
    median(std::iter::repeat_with(chunk).take(CHUNKS).collect())
}

fn class(context: &Arc<Context>, label: &str) -> Arc<Class> {
    context.class(ClassOptions { label: label.to_owned(), ..ClassOptions::default() })
}

fn call(number: libc::c_long, arguments: [usize; 3]) {
    // SAFETY: the calls used here touch no memory but the caller's, which lives on.
    unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2]) };
}

fn main() {
    // SAFETY: a valid path.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } as usize;
    let nanoseconds = match std::env::args().nth(1).as_deref() {
        Some("getppid") => time(5000, || call(libc::SYS_getppid, [0; 3])),
        Some("ioctl") => time(5000, || call(libc::SYS_ioctl, [null, 0x5401, 0])),
        Some(what @ ("kfd" | "kfd-argument")) => {
            // SAFETY: a valid path.
            let kfd = unsafe { libc::open(c"/dev/kfd".as_ptr(), libc::O_RDWR) } as usize;
            let mut argument = [0_u64; 8];
            let command = if what == "kfd" { KFD_VERSION } else { KFD_ALLOC };
            time(1000, || call(libc::SYS_ioctl, [kfd, command, std::ptr::from_mut(&mut argument) as usize]))
        }
        // Two markers of phases a round.
        Some("marker") => {
            time(1000, || {
                drop(gpuos_phase::phase("work"));
            }) / 2.0
        }
        // For a class of jobs, and with another class at every call.
        Some(what @ ("job" | "job-change")) => {
            let context = Context::new(Box::new(Host), false);
            let [a, b] = ["a", "b"].map(|label| class(&context, label));
            a.enter();
            if what == "job" {
                time(5000, || call(libc::SYS_getppid, [0; 3]))
            } else {
                time(1000, || {
                    b.enter();
                    call(libc::SYS_getppid, [0; 3]);
                    identity::leave();
                    call(libc::SYS_getppid, [0; 3]);
                }) / 2.0
            }
        }
        // Two calls a round.
        Some("mmap") => {
            time(1000, || {
                // SAFETY: a new mapping, removed at once.
                unsafe {
                    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                    let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0);
                    libc::munmap(page, 4096);
                }
            }) / 2.0
        }
        // Four threads, each waking nobody on a word of its own.
        Some("futex") => {
            let barrier = Arc::new(Barrier::new(4));
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let barrier = barrier.clone();
                    thread::spawn(move || {
                        let word = 0_u32;
                        barrier.wait();
                        let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
                        time(2000, || call(libc::SYS_futex, [std::ptr::from_ref(&word) as usize, wake as usize, 1]))
                    })
                })
                .collect();
            median(threads.into_iter().map(|thread| thread.join().unwrap()).collect())
        }
        // As a GPU runtime in steady state: 15 µs of its own work, then an ioctl.
        Some("gpu") => time(100, || {
            let end = Instant::now() + Duration::from_micros(15);
            while Instant::now() < end {}
            call(libc::SYS_ioctl, [null, 0x5401, 0]);
        }),
        other => panic!("no such loop: {other:?}"),
    };
    println!("{nanoseconds:.1}");
}
