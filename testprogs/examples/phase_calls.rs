//! A program that marks phases and makes a known number of `getppid` calls in each: the integration tests `phases` compare.
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a test program makes its calls plainly, and says what it did"
)]

use std::{process::Command, sync::Barrier, thread};

fn calls(count: u32) {
    for _ in 0..count {
        // SAFETY: the call has no arguments.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("calls") => calls(7),
        Some("deep") => deep(),
        Some("odd") => odd(),
        Some("many") => many(),
        Some("leave") => leave(),
        _ => phases(),
    }
}

/// Phases of the process, of threads, in children.
fn phases() {
    calls(1);
    gpuos_phase::begin("init");
    calls(2);
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Made in `init`, then it works for whatever the process is in.
            calls(10);
            barrier.wait();
            barrier.wait();
            calls(20);
            {
                let _range = gpuos_phase::thread_range("range");
                calls(40);
                let _inner = gpuos_phase::thread_range("inner");
                calls(80);
            }
            calls(160);
            let open = gpuos_phase::thread_range("never ended");
            std::mem::forget(open);
            calls(320);
            barrier.wait();
            barrier.wait();
            // Its own counts, whatever the process does.
            calls(640);
        });
        barrier.wait();
        gpuos_phase::switch("work");
        barrier.wait();
        calls(3);
        barrier.wait();
        gpuos_phase::begin("copy");
        barrier.wait();
        calls(4);
        gpuos_phase::iterations(2);
    });
    gpuos_phase::end();
    let us = std::env::current_exe().expect("this program has a name");
    let ended = Command::new(us).arg("calls").status().expect("it can be run again");
    assert!(ended.success());
    gpuos_phase::end();
    calls(5);
    for _ in 0..100 {
        let _phase = gpuos_phase::phase("again");
        calls(6);
    }
}

/// More phases inside each other than are kept: their calls belong to the eighth.
fn deep() {
    for _ in 0..12 {
        gpuos_phase::begin("down");
        calls(1);
    }
    for _ in 0..12 {
        gpuos_phase::end();
        calls(100);
    }
}

/// Markers that mean nothing.
fn odd() {
    gpuos_phase::end();
    gpuos_phase::thread_end();
    calls(1);
    let marker = [9_u32; 20];
    // SAFETY: no fd has this number; the last pointer leads nowhere, which the kernel finds out.
    unsafe {
        libc::syscall(libc::SYS_ioctl, -1, 0x4750_5553, &raw const marker);
        libc::syscall(libc::SYS_ioctl, -1, 0x4750_5553, 8);
        // Not a marker: a call on an fd that is not open.
        libc::syscall(libc::SYS_ioctl, -1, 0x4750_5554, 8);
        libc::syscall(libc::SYS_ioctl, 77, 0x4750_5553, 8);
    }
    gpuos_phase::begin("\u{1b}[31mred/\u{7}");
    calls(2);
}

/// Phases that nobody ends: those of a thread that ends, of a program that executes another one, of a process that ends.
fn leave() {
    gpuos_phase::begin("outer");
    gpuos_phase::begin("inner");
    thread::scope(|scope| {
        scope.spawn(|| {
            gpuos_phase::thread_begin("of a thread");
            calls(3);
        });
    });
    gpuos_phase::thread_begin("mine");
    calls(4);
    let us = std::env::current_exe().expect("this program has a name");
    // A child begins in `inner`, and keeps it.
    let ended = Command::new(&us).arg("calls").status().expect("it can be run again");
    assert!(ended.success());
    if std::env::args().nth(2).is_none() {
        let error = std::os::unix::process::CommandExt::exec(Command::new(us).args(["leave", "again"]));
        panic!("{error}");
    }
}

/// More labels than there is room for.
fn many() {
    for number in 0..20 {
        let _phase = gpuos_phase::phase(&format!("phase {number}"));
        calls(1);
        let _inside = gpuos_phase::phase("inside");
        calls(1);
    }
}
