//! Calls of the real amdkfd driver that work without a GPU, and how many: rounds of creating, setting, awaiting and
//! destroying an event; a wait that times out; a wait by a thread that does nothing else. Run in guests.
//!
//! `kfd_calls ROUNDS`. Structures are those of `linux/kfd_ioctl.h`.
#![expect(clippy::disallowed_methods, reason = "a test program")]
#![expect(clippy::print_stdout, reason = "a test program makes its calls plainly, and says what it did")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
    time::Duration,
};

const CREATE_EVENT: libc::Ioctl = 0xc020_4b08_u32 as libc::Ioctl;
const DESTROY_EVENT: libc::Ioctl = 0x4008_4b09;
const SET_EVENT: libc::Ioctl = 0x4008_4b0a;
const WAIT_EVENTS: libc::Ioctl = 0xc018_4b0c_u32 as libc::Ioctl;
const GET_VERSION: libc::Ioctl = 0x8008_4b01_u32 as libc::Ioctl;

#[repr(C)]
#[derive(Default)]
struct CreateEvent {
    page_offset: u64,
    trigger_data: u32,
    kind: u32,
    auto_reset: u32,
    node: u32,
    event: u32,
    slot: u32,
}

#[repr(C)]
#[derive(Default)]
struct OneEvent {
    event: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct EventData {
    payload: [u64; 4],
    extension: u64,
    event: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct WaitEvents {
    events: u64,
    number: u32,
    all: u32,
    timeout_ms: u32,
    result: u32,
}

fn call<T>(device: &File, command: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: the argument is the structure of the command.
    match unsafe { libc::ioctl(device.as_raw_fd(), command, std::ptr::from_mut(argument)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn create(device: &File) -> io::Result<u32> {
    let mut event = CreateEvent { auto_reset: 1, ..Default::default() };
    call(device, CREATE_EVENT, &mut event)?;
    Ok(event.event)
}

fn set(device: &File, event: u32) -> io::Result<()> {
    call(device, SET_EVENT, &mut OneEvent { event, padding: 0 })
}

fn destroy(device: &File, event: u32) -> io::Result<()> {
    call(device, DESTROY_EVENT, &mut OneEvent { event, padding: 0 })
}

/// Waits, and says whether the event came before the time was up.
fn wait(device: &File, event: u32, timeout_ms: u32) -> io::Result<bool> {
    wait_for(device, event, timeout_ms, 1)
}

fn wait_for(device: &File, event: u32, timeout_ms: u32, all: u32) -> io::Result<bool> {
    let mut data = EventData { event, ..Default::default() };
    let events = std::ptr::from_mut(&mut data) as u64;
    let mut wait = WaitEvents { events, number: 1, all, timeout_ms, result: 9 };
    call(device, WAIT_EVENTS, &mut wait)?;
    Ok(wait.result == 0)
}

fn main() -> io::Result<()> {
    let rounds: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("a number of rounds");
    let device = OpenOptions::new().read(true).write(true).open("/dev/kfd")?;
    call(&device, GET_VERSION, &mut [0_u32; 2])?;
    for _ in 0..rounds {
        let event = create(&device)?;
        set(&device, event)?;
        assert!(wait(&device, event, 1000)?, "the event was set");
        destroy(&device, event)?;
    }
    let event = create(&device)?;
    assert!(!wait(&device, event, 30)?, "nobody sets it");
    std::thread::scope(|scope| {
        // As a runtime's event thread does.
        let waiter = scope.spawn(|| wait_for(&device, event, 5000, 0));
        std::thread::sleep(Duration::from_millis(50));
        set(&device, event)?;
        assert!(waiter.join().expect("the thread ends")?, "it was set while the thread waited");
        io::Result::Ok(())
    })?;
    destroy(&device, event)?;
    // Twice is an error of the call.
    assert!(destroy(&device, event).is_err(), "it is gone");
    for (calls, errors, refused, name) in [
        (1, 0, 0, "AMDKFD_IOC_GET_VERSION"),
        (rounds + 1, 0, 0, "AMDKFD_IOC_CREATE_EVENT/signal"),
        (rounds + 1, 0, 0, "AMDKFD_IOC_SET_EVENT"),
        (rounds + 1, 0, 1, "AMDKFD_IOC_WAIT_EVENTS/all events"),
        (1, 0, 0, "AMDKFD_IOC_WAIT_EVENTS/any event (a runtime's event thread)"),
        (rounds + 2, 1, 0, "AMDKFD_IOC_DESTROY_EVENT"),
    ] {
        println!("kfd {name} {calls} {errors} {refused}");
    }
    Ok(())
}
