//! How the end of a job becomes known: waits, timeouts, polls, the descriptor, errors, lost devices.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use gpuos_job::{
    backend::host,
    class::{ClassOptions, Unknown},
    clock::now,
    error::Status,
    job,
    state::State,
};

use crate::support::{Gate, TestStream, context};

fn readable(fd: i32, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure of this frame.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) > 0 }
}

#[test]
fn a_wait_returns_when_the_work_is_done_and_not_before() {
    for unknown in [Unknown::Block, Unknown::Spin] {
        let (context, class) = context(ClassOptions { unknown, ..ClassOptions::default() }, false);
        let stream = TestStream::new();
        let count = Arc::new(AtomicU32::new(0));
        // More than it takes to learn: waits are predicted from then on.
        for number in 1..=40 {
            let job = job::begin(&context, &class, stream.0).unwrap();
            let before = now();
            stream.sleeps(200_000);
            stream.counts(&count);
            job::submit(job).unwrap();
            job::wait(job, None).unwrap();
            assert_eq!(count.load(Ordering::SeqCst), number);
            let info = job::info(job).unwrap();
            assert!(info.state == State::Done && info.known >= before + 200_000 && info.submitted >= before);
            job::end(job).unwrap();
        }
        let stats = class.stats();
        assert_eq!((stats.begun, stats.done, stats.failed), (40, 40, 0));
        assert!(stats.duration > 0, "{stats:?}");
        context.close().unwrap();
    }
}

#[test]
fn a_wait_gives_up_after_its_time_and_the_job_goes_on() {
    let (context, class) = context(ClassOptions::default(), false);
    let (stream, gate) = (TestStream::new(), Gate::default());
    let job = job::begin(&context, &class, stream.0).unwrap();
    stream.gated(&gate, 0);
    job::submit(job).unwrap();
    let before = now();
    assert_eq!(job::wait(job, Some(3_000_000)).unwrap_err().status, Status::Timeout);
    assert!(now() >= before + 3_000_000);
    assert_eq!(job::wait(job, Some(0)).unwrap_err().status, Status::Timeout);
    assert_eq!(context.close().unwrap_err().status, Status::State);
    gate.open();
    job::wait(job, None).unwrap();
    job::end(job).unwrap();
}

#[test]
fn several_threads_wait_for_one_job() {
    let (context, class) = context(ClassOptions::default(), false);
    let (stream, gate) = (TestStream::new(), Gate::default());
    let job = job::begin(&context, &class, stream.0).unwrap();
    stream.gated(&gate, 0);
    job::submit(job).unwrap();
    std::thread::scope(|scope| {
        let waits: Vec<_> = (0..4).map(|_| scope.spawn(|| job::wait(job, Some(10_000_000_000)))).collect();
        gate.open();
        waits.into_iter().for_each(|wait| wait.join().unwrap().unwrap());
    });
    // A wait has told: no poll does.
    assert!(context.poll(8).is_empty());
    job::end(job).unwrap();
}

#[test]
fn a_loop_sleeps_to_deadlines_and_hears_of_each_job_once() {
    let (context, class) = context(ClassOptions::default(), false);
    let streams: Vec<TestStream> = (0..4).map(|_| TestStream::new()).collect();
    assert_eq!(context.next_deadline(), None);
    let mut heard = 0;
    for _ in 0..20 {
        let mut flying: Vec<u64> = streams
            .iter()
            .map(|stream| {
                let job = job::begin(&context, &class, stream.0).unwrap();
                stream.sleeps(300_000);
                job::submit(job).unwrap();
                job
            })
            .collect();
        while let Some(deadline) = context.next_deadline() {
            gpuos_job::clock::sleep_until(deadline);
            for job in context.poll(2) {
                assert!(flying.contains(&job), "each once");
                flying.retain(|other| *other != job);
                job::end(job).unwrap();
                heard += 1;
            }
        }
        assert!(flying.is_empty());
    }
    assert_eq!((heard, class.stats().done), (80, 80));
}

/// Polls whenever the descriptor says so, until so many jobs were told of.
fn hear(context: &gpuos_job::context::Context, fd: i32, many: usize, most: usize) -> Vec<u64> {
    let mut heard = Vec::new();
    while heard.len() < many {
        assert!(readable(fd, 10_000), "{heard:?}");
        heard.extend(context.poll(most));
    }
    heard
}

#[test]
fn the_descriptor_says_when_to_poll() {
    let (context, class) = context(ClassOptions::default(), false);
    let fd = context.fd().unwrap();
    assert_eq!(context.fd().unwrap(), fd);
    assert!(!readable(fd, 0));
    let (stream, gate) = (TestStream::new(), Gate::default());
    for _ in 0..12 {
        let job = job::begin(&context, &class, stream.0).unwrap();
        stream.gated(&gate, 0);
        job::submit(job).unwrap();
        assert!(context.poll(8).is_empty());
        gate.open();
        assert_eq!(hear(&context, fd, 1, 8), [job]);
        assert!(!readable(fd, 0), "nothing is in flight");
        job::end(job).unwrap();
    }
    // Several at once, and fewer asked for than there are: it stays readable.
    let jobs = [(); 3].map(|()| {
        let job = job::begin(&context, &class, stream.0).unwrap();
        job::submit(job).unwrap();
        job
    });
    assert_eq!(hear(&context, fd, 3, 1), jobs);
    assert!(!readable(fd, 0));
    // One that is cancelled is told of, too.
    let job = job::begin(&context, &class, stream.0).unwrap();
    stream.gated(&gate, 0);
    job::submit(job).unwrap();
    job::cancel(job).unwrap();
    assert_eq!(hear(&context, fd, 1, 8), [job]);
    job::end(job).unwrap();
    gate.open();
    context.close().unwrap();
}

#[test]
fn an_error_ends_every_job_behind_it_and_says_which() {
    let (context, class) = context(ClassOptions { watchdog: 1_000_000, ..ClassOptions::default() }, false);
    let fd = context.fd().unwrap();
    let (stream, gate) = (TestStream::new(), Gate::default());
    let jobs: Vec<u64> = [0, 7, 0]
        .into_iter()
        .map(|code| {
            let job = job::begin(&context, &class, stream.0).unwrap();
            stream.gated(&gate, code);
            job::submit(job).unwrap();
            job
        })
        .collect();
    (0..3).for_each(|_| gate.open());
    hear(&context, fd, 3, 8);
    assert_eq!(job::info(jobs[0]).unwrap().state, State::Done);
    for job in &jobs[1..] {
        let error = job::error(*job).unwrap().unwrap();
        assert_eq!((error.status, error.code), (Status::Failed, 7));
        assert_eq!(job::wait(*job, None).unwrap_err().code, 7);
    }
    jobs.iter().for_each(|job| job::end(*job).unwrap());
    // The stream stays as it is: a job that begins on it fails when it is submitted.
    let late = job::begin(&context, &class, stream.0).unwrap();
    assert_eq!(job::submit(late).unwrap_err().status, Status::Failed);
    assert_eq!(job::info(late).unwrap().state, State::Failed);
    job::end(late).unwrap();
    assert_eq!(class.stats().failed, 3);
}

#[test]
fn a_lost_device_ends_waits() {
    for unknown in [Unknown::Block, Unknown::Spin] {
        let (context, class) = context(ClassOptions { unknown, watchdog: 2_000_000, ..ClassOptions::default() }, false);
        let (stream, gate) = (TestStream::new(), Gate::default());
        let job = job::begin(&context, &class, stream.0).unwrap();
        stream.gated(&gate, 0);
        job::submit(job).unwrap();
        std::thread::scope(|scope| {
            let wait = scope.spawn(|| job::wait(job, Some(10_000_000_000)));
            host::lose(stream.0).unwrap();
            assert_eq!(wait.join().unwrap().unwrap_err().status, Status::Lost);
        });
        assert_eq!(job::wait(job, None).unwrap_err().status, Status::Lost);
        gate.open();
        job::end(job).unwrap();
    }
}

#[test]
fn a_cancelled_job_ends_its_waits_and_keeps_its_memory_until_the_device_is_done() {
    let (context, class) = context(ClassOptions { bytes: 1 << 12, ..ClassOptions::default() }, false);
    let (stream, gate) = (TestStream::new(), Gate::default());
    let job = job::begin(&context, &class, stream.0).unwrap();
    let address = job::alloc(job, 100, 0).unwrap();
    stream.gated(&gate, 0);
    job::submit(job).unwrap();
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| job::wait(job, Some(10_000_000_000)));
        job::cancel(job).unwrap();
        assert_eq!(wait.join().unwrap().unwrap_err().status, Status::Cancelled);
    });
    assert_eq!(job::cancel(job).unwrap_err().status, Status::State);
    job::end(job).unwrap();
    // The device may still write there: the next job gets other memory.
    let next = job::begin(&context, &class, stream.0).unwrap();
    assert_ne!(job::alloc(next, 100, 0).unwrap(), address);
    gate.open();
    job::submit(next).unwrap();
    job::wait(next, None).unwrap();
    context.poll(8);
    job::end(next).unwrap();
    let after = job::begin(&context, &class, stream.0).unwrap();
    let again = job::alloc(after, 100, 0).unwrap();
    assert_eq!(class.stats().arena.growths, 2);
    assert_eq!(context.owner(again).unwrap(), (after, true));
    job::cancel(after).unwrap();
    job::end(after).unwrap();
}

#[test]
fn a_job_whose_work_was_done_is_done_whatever_comes_behind_it() {
    for unknown in [Unknown::Block, Unknown::Spin] {
        let (context, class) = context(ClassOptions { unknown, ..ClassOptions::default() }, false);
        let (stream, gate) = (TestStream::new(), Gate::default());
        let [good, bad] = [0, 7].map(|code| {
            let job = job::begin(&context, &class, stream.0).unwrap();
            stream.gated(&gate, code);
            job::submit(job).unwrap();
            job
        });
        (0..2).for_each(|_| gate.open());
        assert_eq!(job::wait(bad, None).unwrap_err().code, 7);
        job::wait(good, None).unwrap();
        for job in [good, bad] {
            job::end(job).unwrap();
        }
    }
}

#[test]
fn a_failure_of_one_job_is_asked_about_for_all_others_at_once() {
    const HOUR: u64 = 3_600_000_000_000;
    let (context, patient) =
        context(ClassOptions { watchdog: HOUR, unknown: Unknown::Spin, ..ClassOptions::default() }, false);
    let blocking = context.class(ClassOptions::default());
    let (one, other, gate) = (TestStream::new(), TestStream::new(), Gate::default());
    let [failing, waiting] = [(&one, &blocking), (&other, &patient)].map(|(stream, class)| {
        let job = job::begin(&context, class, stream.0).unwrap();
        stream.gated(&gate, 0);
        job::submit(job).unwrap();
        job
    });
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| job::wait(waiting, Some(20_000_000_000)));
        host::lose(other.0).unwrap();
        host::lose(one.0).unwrap();
        // The runtime's wait says it of this one.
        assert_eq!(job::wait(failing, None).unwrap_err().status, Status::Lost);
        assert_eq!(wait.join().unwrap().unwrap_err().status, Status::Lost);
    });
    (0..2).for_each(|_| gate.open());
    for job in [failing, waiting] {
        job::end(job).unwrap();
    }
}

#[test]
fn memory_of_a_job_that_is_given_up_before_it_is_submitted_is_the_device_s_until_its_work_is_done() {
    let (context, class) = context(ClassOptions { bytes: 1 << 12, ..ClassOptions::default() }, false);
    let (stream, gate) = (TestStream::new(), Gate::default());
    let job = job::begin(&context, &class, stream.0).unwrap();
    let address = job::alloc(job, 100, 0).unwrap();
    stream.gated(&gate, 0);
    job::cancel(job).unwrap();
    job::end(job).unwrap();
    let next = job::begin(&context, &class, stream.0).unwrap();
    assert_ne!(job::alloc(next, 100, 0).unwrap(), address);
    gate.open();
    job::submit(next).unwrap();
    job::wait(next, None).unwrap();
    job::end(next).unwrap();
    // Its work is done: it is there again.
    context.close().unwrap();
    assert_eq!(class.stats().arena.growths, 2);
    assert!(class.arena.trim(&*context.backend).unwrap() > 1 << 16);
}

#[test]
fn a_loop_that_is_told_of_changes_alone_hears_of_all() {
    let (context, class) = context(ClassOptions::default(), false);
    let fd = context.fd().unwrap();
    // SAFETY: makes a descriptor.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
    // SAFETY: one structure of this frame.
    assert_eq!(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) }, 0);
    let stream = TestStream::new();
    let jobs: Vec<u64> = (0..30)
        .map(|_| {
            let job = job::begin(&context, &class, stream.0).unwrap();
            job::submit(job).unwrap();
            job
        })
        .collect();
    let mut heard: Vec<u64> = Vec::new();
    while heard.len() < jobs.len() {
        // SAFETY: as above.
        let changed = unsafe { libc::epoll_wait(epoll, &raw mut event, 1, 10_000) };
        assert_eq!(changed, 1, "{} of {} were told of", heard.len(), jobs.len());
        // Fewer at a time than there are, until there are none.
        loop {
            let told = context.poll(4);
            heard.extend(&told);
            if told.is_empty() {
                break;
            }
        }
    }
    assert_eq!(heard, jobs);
    // SAFETY: made above.
    unsafe { libc::close(epoll) };
}

#[test]
fn a_wait_for_a_job_that_another_saw_end_is_no_timeout() {
    let (context, class) = context(ClassOptions { unknown: Unknown::Spin, ..ClassOptions::default() }, false);
    let stream = TestStream::new();
    std::thread::scope(|scope| {
        for _ in 0..300 {
            let job = job::begin(&context, &class, stream.0).unwrap();
            stream.sleeps(20_000);
            job::submit(job).unwrap();
            let wait = scope.spawn(move || job::wait(job, Some(5_000_000_000)));
            while job::info(job).unwrap().state == State::Submitted {
                context.poll(8);
                // Tokens are used again at once.
                let next = job::begin(&context, &class, stream.0).unwrap();
                job::submit(next).unwrap();
                job::wait(next, None).unwrap();
                job::end(next).unwrap();
            }
            wait.join().unwrap().unwrap();
            job::end(job).unwrap();
        }
    });
}

#[test]
fn what_a_class_recorded_is_done_again() {
    let (context, class) = context(ClassOptions::default(), false);
    let stream = TestStream::new();
    let count = Arc::new(AtomicU32::new(0));
    for number in 0..3 {
        let job = job::begin(&context, &class, stream.0).unwrap();
        assert_eq!(job::record(job).unwrap(), number > 0);
        if number == 0 {
            stream.counts(&count);
            stream.counts(&count);
            assert_eq!(count.load(Ordering::SeqCst), 0, "it is recorded, and not done");
        }
        job::submit(job).unwrap();
        job::wait(job, None).unwrap();
        job::end(job).unwrap();
    }
    assert_eq!(count.load(Ordering::SeqCst), 6);
}

#[test]
fn a_child_is_told_that_jobs_are_its_parent_s() {
    let (context, class) = context(ClassOptions::default(), false);
    let stream = TestStream::new();
    let job = job::begin(&context, &class, stream.0).unwrap();
    // SAFETY: the child calls one function that takes no lock before it refuses, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_refused = job::submit(job).is_err_and(|error| error.status == Status::Forked);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!is_refused)) };
    }
    let mut status = 0;
    // SAFETY: of the child above.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    job::submit(job).unwrap();
    job::wait(job, None).unwrap();
    job::end(job).unwrap();
}

/// Whether a descriptor is readable, after this many milliseconds at most.
fn is_readable(fd: i32, milliseconds: i32) -> bool {
    let mut one = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure of this frame.
    unsafe { libc::poll(&raw mut one, 1, milliseconds) == 1 }
}

/// A class that knows its jobs to take so long.
fn learnt(
    context: &std::sync::Arc<gpuos_job::context::Context>,
    options: ClassOptions,
    nanoseconds: u64,
) -> std::sync::Arc<gpuos_job::class::Class> {
    let class = context.class(ClassOptions { unknown: Unknown::Spin, ..options });
    let streams: Vec<TestStream> = (0..10).map(|_| TestStream::new()).collect();
    std::thread::scope(|scope| {
        for stream in &streams {
            scope.spawn(|| {
                let job = job::begin(context, &class, stream.0).unwrap();
                stream.sleeps(nanoseconds);
                job::submit(job).unwrap();
                job::wait(job, None).unwrap();
                job::end(job).unwrap();
            });
        }
    });
    class
}

#[test]
fn a_loop_asks_for_the_others_at_once_when_one_has_failed() {
    let (context, _) = context(ClassOptions::default(), false);
    let short = learnt(&context, ClassOptions { watchdog: 1_000_000, ..ClassOptions::default() }, 1_000_000);
    let long = learnt(&context, ClassOptions::default(), 400_000_000);
    let (stream, other, gate) = (TestStream::new(), TestStream::new(), Gate::default());
    let fd = context.fd().unwrap();
    let lasting = job::begin(&context, &long, other.0).unwrap();
    other.gated(&gate, 0);
    job::submit(lasting).unwrap();
    let failing = job::begin(&context, &short, stream.0).unwrap();
    let through = Gate::default();
    stream.gated(&through, 7);
    job::submit(failing).unwrap();
    through.open();
    let mut told = Vec::new();
    while told.is_empty() {
        told = context.poll(4);
    }
    // The other is not likely to end for a long time, and is asked for all the same.
    let is_readable = is_readable(fd, 0);
    gate.open();
    assert_eq!((told, job::info(failing).unwrap().state, is_readable), (vec![failing], State::Failed, true));
    job::wait(lasting, None).unwrap();
    job::end(lasting).unwrap();
    job::end(failing).unwrap();
}

#[test]
fn the_descriptor_knows_of_a_job_behind_one_that_a_thread_saw_end() {
    let (context, _) = context(ClassOptions::default(), false);
    let (short, long) =
        (learnt(&context, ClassOptions::default(), 1_000_000), learnt(&context, ClassOptions::default(), 400_000_000));
    let (stream, gate, behind) = (TestStream::new(), Gate::default(), Gate::default());
    let fd = context.fd().unwrap();
    let first = job::begin(&context, &long, stream.0).unwrap();
    stream.gated(&gate, 0);
    job::submit(first).unwrap();
    let second = job::begin(&context, &short, stream.0).unwrap();
    stream.gated(&behind, 0);
    job::submit(second).unwrap();
    let was_readable = is_readable(fd, 0);
    gate.open();
    // There at the first look.
    std::thread::sleep(std::time::Duration::from_millis(20));
    job::wait(first, None).unwrap();
    // The second is likely to end after a millisecond, and not after the first's four hundred.
    let is_readable = is_readable(fd, 200);
    behind.open();
    assert_eq!((was_readable, is_readable), (false, true));
    job::wait(second, None).unwrap();
    for job in [first, second] {
        job::end(job).unwrap();
    }
}
