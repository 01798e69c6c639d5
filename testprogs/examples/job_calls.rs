//! A program that has jobs, and makes a known number of `getppid` calls for each class: the integration tests `job_classes`
//! compare.

#![expect(clippy::print_stdout, reason = "a test program says what it did")]

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use gpuos_job::{
    backend::host::{self, Host},
    class::{Class, ClassOptions},
    context::Context,
    identity, job,
};

fn calls(count: u32) {
    for _ in 0..count {
        // SAFETY: the call has no arguments.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

fn class(context: &Arc<Context>, label: &str) -> Arc<Class> {
    context.class(ClassOptions { label: label.to_owned(), ..ClassOptions::default() })
}

/// Computes for so long, with a call each half millisecond.
fn compute(milliseconds: u64) {
    let until = Instant::now() + Duration::from_millis(milliseconds);
    while Instant::now() < until {
        let next = Instant::now() + Duration::from_micros(500);
        while Instant::now() < next {
            std::hint::spin_loop();
        }
        calls(1);
    }
}

fn main() {
    let context = Context::new(Box::new(Host), false);
    let (mut words, labels) = (std::env::args().skip(1), ["a", "b/c"]);
    let what = words.next();
    if what.as_deref() == Some("nameless") {
        // The first label of the table, so that its memory has not been written to by another.
        class(&context, "").enter();
        calls(5);
        identity::leave();
        // A tracer looks for tables of jobs ten times a second.
        thread::sleep(Duration::from_millis(300));
        return;
    }
    let [a, b] = labels.map(|label| class(&context, label));
    match what.as_deref() {
        Some("enter") => enter(&a, &b),
        Some("wait") => wait_to_be_attached_to(&a),
        Some("compute") => {
            a.enter();
            compute(300);
            identity::leave();
            b.enter();
            compute(600);
            identity::leave();
            // What is used up to here is known when the thread stops, or calls.
            thread::sleep(Duration::from_millis(300));
        }
        Some("jobs") => jobs(&context, &a, words.next().and_then(|count| count.parse().ok()).unwrap_or(100)),
        other => panic!("what is {other:?}?"),
    }
}

/// Classes of two threads, inside each other, in a phase and in none, and in children.
fn enter(a: &Class, b: &Arc<Class>) {
    calls(1);
    a.enter();
    calls(2);
    b.enter();
    calls(4);
    identity::leave();
    calls(8);
    gpuos_phase::begin("work");
    calls(16);
    gpuos_phase::thread_begin("range");
    calls(32);
    identity::leave();
    calls(64);
    a.enter();
    calls(128);
    gpuos_phase::thread_end();
    calls(256);
    gpuos_phase::end();
    identity::leave();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            b.enter();
            barrier.wait();
            calls(512);
            barrier.wait();
            // It ends with the class that it worked for.
        });
        barrier.wait();
        calls(1024);
        barrier.wait();
    });
    a.enter();
    // A child works for nothing: its slot is its parent's.
    // SAFETY: the child makes calls and exits.
    let child = unsafe { libc::fork() };
    if child == 0 {
        identity::leave();
        calls(2048);
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: waits for it.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    calls(4096);
    identity::leave();
    // A tracer looks for tables of jobs ten times a second.
    thread::sleep(Duration::from_millis(300));
}

/// Says that it is there, and waits until a line comes before it calls anything for its class.
fn wait_to_be_attached_to(a: &Class) {
    a.enter();
    calls(100);
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
    calls(50);
    identity::leave();
    calls(25);
    thread::sleep(Duration::from_millis(300));
}

/// Jobs on a thread of the CPU, each with a call while it is issued; one is given up.
fn jobs(context: &Arc<Context>, class: &Arc<Class>, count: u64) {
    let stream = host::open().expect("a stream");
    let work = Arc::new(|| {
        thread::sleep(Duration::from_millis(1));
        0
    });
    for number in 0..count {
        let one = job::begin(context, class, stream).expect("a job begins");
        calls(1);
        host::launch(stream, work.clone()).expect("its work begins");
        job::alloc(one, 1000, 0).expect("memory");
        job::submit(one).expect("it is submitted");
        if number == 0 {
            job::cancel(one).expect("it is given up");
            job::wait(one, None).expect_err("it was given up");
        } else {
            job::wait(one, None).expect("it ends");
        }
        job::end(one).expect("it is ended");
    }
    thread::sleep(Duration::from_millis(300));
}
