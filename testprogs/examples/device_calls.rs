//! Makes `ioctl` calls on fds of every kind, and says what each one is: lines of count and device, as
//! `fstat` and the program itself know it. Run by the integration tests `ioctl` and in guests.
//!
//! `device_calls NUMBER`: so many calls on each.
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    clippy::print_stdout,
    reason = "a test program makes its calls plainly, and says what it did"
)]

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags},
    eventfd::EventFd,
    memfd::{MFdFlags, memfd_create},
    socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
    },
};

/// A command that no driver has: `_IOC(_IOC_NONE, 0xee, 0x5a, 0)`.
const COMMAND: libc::Ioctl = 0xee5a;

fn call(fd: RawFd, times: u32) {
    for _ in 0..times {
        // SAFETY: no argument is read for a command that does not exist.
        unsafe { libc::ioctl(fd, COMMAND, 0) };
    }
}

/// Device number in the kernel's coding, from `fstat`; for what is no character device, a word.
fn name(fd: RawFd) -> String {
    // SAFETY: plain data, filled by the call.
    let stat = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        assert_eq!(libc::fstat(fd, &raw mut stat), 0, "fstat of {fd}");
        stat
    };
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFCHR => format!("{}:{}", libc::major(stat.st_rdev), libc::minor(stat.st_rdev)),
        libc::S_IFSOCK => "socket".to_owned(),
        libc::S_IFIFO => "pipe".to_owned(),
        libc::S_IFDIR => "directory".to_owned(),
        libc::S_IFBLK => "block device".to_owned(),
        libc::S_IFREG => "file".to_owned(),
        _ => "anonymous file".to_owned(),
    }
}

/// Sends an fd over a socket and receives it as a new one.
#[expect(clippy::wildcard_enum_match_arm, reason = "of all control messages one is looked for")]
fn through_socket(fd: RawFd) -> OwnedFd {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty()).expect("a pair of sockets");
    let rights = [fd];
    let data = [IoSlice::new(b"x")];
    sendmsg::<()>(ours.as_raw_fd(), &data, &[ControlMessage::ScmRights(&rights)], MsgFlags::empty(), None)
        .expect("the fd is sent");
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message =
        recvmsg::<()>(theirs.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::empty()).expect("the fd arrives");
    let received = message.cmsgs().expect("control messages").find_map(|control| match control {
        ControlMessageOwned::ScmRights(list) => list.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(received.expect("an fd")) }
}

fn main() {
    let times: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("a number of calls");
    let null = File::open("/dev/null").expect("/dev/null opens");
    let zero = File::open("/dev/zero").expect("/dev/zero opens");
    let file = tempfile::tempfile().expect("a temporary file");
    let folder = File::open("/").expect("/ opens");
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let (socket, _peer) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty()).expect("a pair of sockets");
    let memory = memfd_create(c"memory", MFdFlags::empty()).expect("a file in memory");
    let event = EventFd::new().expect("an eventfd");
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
    let terminal = nix::pty::posix_openpt(nix::fcntl::OFlag::O_RDWR).expect("a terminal");

    let mut made: Vec<(String, u32)> = Vec::new();
    let mut on = |name: String, fd: RawFd, times: u32| {
        call(fd, times);
        made.push((name, times));
    };
    for fd in [
        null.as_raw_fd(),
        zero.as_raw_fd(),
        file.as_raw_fd(),
        folder.as_raw_fd(),
        reader.as_raw_fd(),
        socket.as_raw_fd(),
        memory.as_raw_fd(),
        terminal.as_raw_fd(),
    ] {
        on(name(fd), fd, times);
    }
    // Linux 6.16 shows them as regular files to `fstat`.
    for (name, fd) in [("anonymous file", event.as_raw_fd()), ("epoll", epoll.0.as_raw_fd())] {
        on(name.to_owned(), fd, times);
    }
    // The same device by other ways.
    let copy = zero.try_clone().expect("a duplicate");
    on(name(zero.as_raw_fd()), copy.as_raw_fd(), times);
    // SAFETY: 700 is nobody's; the fd table grows.
    let high = unsafe { OwnedFd::from_raw_fd(libc::fcntl(zero.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 700)) };
    on(name(zero.as_raw_fd()), high.as_raw_fd(), times);
    let received = through_socket(null.as_raw_fd());
    on(name(null.as_raw_fd()), received.as_raw_fd(), times);
    // A child thread shares the table.
    std::thread::scope(|scope| {
        let null = &null;
        scope.spawn(move || call(null.as_raw_fd(), times));
    });
    made.push((name(null.as_raw_fd()), times));
    // No fd at all.
    let path = File::options().read(true).custom_flags(libc::O_PATH).open("/dev/null").expect("a path");
    for fd in [path.as_raw_fd(), 900, 1 << 30, -1] {
        call(fd, times);
        made.push(("not open".to_owned(), times));
    }
    for (name, times) in made {
        println!("{times} {name}");
    }
}
