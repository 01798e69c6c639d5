//! Calls of the virtual GEM driver that really wait for a fence, and how many. Run in guests.
//!
//! `vgem_calls ROUNDS`. A buffer is shared as a dma-buf; each round attaches a fence to it, waits in one way, and is
//! woken by a thread that signals the fence: `poll` for reading and for writing, `epoll_wait`, `DMA_BUF_IOCTL_SYNC`,
//! and a `sync_file`. Structures are those of `drm/drm.h`, `drm/vgem_drm.h`, `linux/dma-buf.h`, `linux/sync_file.h`.
#![expect(clippy::disallowed_methods, reason = "a test program")]
#![expect(clippy::print_stdout, reason = "a test program makes its calls plainly, and says what it did")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};
use std::os::fd::{AsFd, BorrowedFd};

const VERSION: u32 = 0xc040_6400;
const CREATE_DUMB: u32 = 0xc020_64b2;
const PRIME_HANDLE_TO_FD: u32 = 0xc00c_642d;
const GEM_CLOSE: u32 = 0x4008_6409;
const FENCE_ATTACH: u32 = 0xc010_6441;
const FENCE_SIGNAL: u32 = 0x4008_6442;
const SYNC: u32 = 0x4008_6200;
const EXPORT_SYNC_FILE: u32 = 0xc008_6202;
const FILE_INFO: u32 = 0xc038_3e04;

/// How long a fence is left alone. Its driver ends it after ten seconds.
const WHILE: Duration = Duration::from_millis(30);

fn call<T>(file: BorrowedFd<'_>, command: u32, argument: &mut T) -> io::Result<()> {
    // SAFETY: the argument is the structure of the command.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::Ioctl::from(command), std::ptr::from_mut(argument)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

struct Card {
    file: File,
    handle: u32,
}

impl Card {
    /// Attaches a fence to the buffer, for writing or reading, and returns its number.
    fn attach(&self, writing: bool) -> io::Result<u32> {
        let mut attach = [self.handle, u32::from(writing), 0, 0];
        call(self.file.as_fd(), FENCE_ATTACH, &mut attach)?;
        Ok(attach[2])
    }

    fn signal(&self, fence: u32) -> io::Result<()> {
        call(self.file.as_fd(), FENCE_SIGNAL, &mut [fence, 0])
    }

    /// Signals a fence a while later, and says how long `wait` took.
    fn signalled_while(&self, fence: u32, wait: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let start = Instant::now();
        thread::scope(|scope| {
            let signaller = scope.spawn(|| {
                thread::sleep(WHILE);
                self.signal(fence)
            });
            wait()?;
            assert!(start.elapsed() >= WHILE, "it waited for the fence");
            signaller.join().expect("the thread ends")
        })
    }
}

fn ready(file: BorrowedFd<'_>, flags: PollFlags, timeout_ms: u16) -> io::Result<bool> {
    Ok(poll(&mut [PollFd::new(file, flags)], PollTimeout::from(timeout_ms))? == 1)
}

fn main() -> io::Result<()> {
    let rounds: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("a number of rounds");
    let file = OpenOptions::new().read(true).write(true).open("/dev/dri/card0")?;
    call(file.as_fd(), VERSION, &mut [0_u64; 8])?;
    // Height, width, bits for each pixel, flags; then handle, pitch, size.
    let mut dumb = [256_u32, 256, 32, 0, 0, 0, 0, 0];
    call(file.as_fd(), CREATE_DUMB, &mut dumb)?;
    let card = Card { file, handle: dumb[4] };
    let mut prime = [card.handle, (libc::O_CLOEXEC | libc::O_RDWR) as u32, 0];
    call(card.file.as_fd(), PRIME_HANDLE_TO_FD, &mut prime)?;
    // SAFETY: a new fd.
    let buffer = unsafe { OwnedFd::from_raw_fd(prime[2] as i32) };
    let mut exports = true;
    for _ in 0..rounds {
        let fence = card.attach(true)?;
        assert!(!ready(buffer.as_fd(), PollFlags::POLLIN, 0)?, "somebody writes");
        card.signalled_while(fence, || ready(buffer.as_fd(), PollFlags::POLLIN, 5000).map(drop))?;

        let fence = card.attach(false)?;
        assert!(ready(buffer.as_fd(), PollFlags::POLLIN, 0)?, "somebody only reads");
        card.signalled_while(fence, || ready(buffer.as_fd(), PollFlags::POLLOUT, 5000).map(drop))?;

        let fence = card.attach(true)?;
        card.signalled_while(fence, || {
            // DMA_BUF_SYNC_READ | START, then READ | END.
            call(buffer.as_fd(), SYNC, &mut 1_u64)
        })?;
        call(buffer.as_fd(), SYNC, &mut 5_u64)?;

        let fence = card.attach(true)?;
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        epoll.add(&buffer, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
        let mut events = [EpollEvent::empty()];
        assert_eq!(epoll.wait(&mut events, EpollTimeout::ZERO)?, 0, "somebody writes");
        card.signalled_while(fence, || Ok(epoll.wait(&mut events, EpollTimeout::from(5000_u16)).map(drop)?))?;

        let fence = card.attach(true)?;
        // DMA_BUF_SYNC_READ.
        let mut export = [1_u32, 0];
        match call(buffer.as_fd(), EXPORT_SYNC_FILE, &mut export) {
            Ok(()) => {
                // SAFETY: a new fd.
                let fence_file = unsafe { OwnedFd::from_raw_fd(export[1] as i32) };
                card.signalled_while(fence, || ready(fence_file.as_fd(), PollFlags::POLLIN, 5000).map(drop))?;
                call(fence_file.as_fd(), FILE_INFO, &mut [0_u64; 7])?;
            }
            // Before Linux 6.0.
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
                exports = false;
                card.signal(fence)?;
            }
            Err(error) => return Err(error),
        }
    }
    assert!(card.signal(1_000_000).is_err(), "there is no such fence");
    drop(buffer);
    call(card.file.as_fd(), GEM_CLOSE, &mut [card.handle, 0])?;
    let exported = if exports { rounds } else { 0 };
    for (calls, errors, name) in [
        (1, 0, "card0 DRM_IOCTL_VERSION"),
        (1, 0, "card0 DRM_IOCTL_MODE_CREATE_DUMB"),
        (1, 0, "card0 DRM_IOCTL_PRIME_HANDLE_TO_FD"),
        (1, 0, "card0 DRM_IOCTL_GEM_CLOSE"),
        (5 * rounds, 0, "card0 DRM_IOCTL_VGEM_FENCE_ATTACH"),
        (5 * rounds + 1, 1, "card0 DRM_IOCTL_VGEM_FENCE_SIGNAL"),
        (4 * rounds, 0, "dma-buf poll"),
        (2 * rounds, 0, "dma-buf epoll_wait"),
        (rounds, 0, "dma-buf epoll_ctl"),
        (2 * rounds, 0, "dma-buf DMA_BUF_IOCTL_SYNC"),
        (rounds, rounds - exported, "dma-buf DMA_BUF_IOCTL_EXPORT_SYNC_FILE"),
        (exported, 0, "sync_file poll"),
        (exported, 0, "sync_file SYNC_IOC_FILE_INFO"),
    ] {
        if calls != 0 {
            println!("{name} {calls} {errors} 0");
        }
    }
    Ok(())
}
