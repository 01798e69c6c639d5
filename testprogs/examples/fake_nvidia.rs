//! Fake device nodes of NVIDIA's driver, and a program that calls it. There is no GPU and no driver of NVIDIA's
//! here: a server in user space (CUSE) answers ioctls on `/dev/nvidiactl`, `/dev/nvidia0` and `/dev/nvidia-uvm`, and
//! writes statuses where the driver of a given version would. Run in guests.
//!
//! `fake_nvidia serve VERSION` is the server; `fake_nvidia call VERSION ROUNDS` makes known calls and prints
//! them: device, command/detail, calls, errors, refused.
#![expect(clippy::disallowed_methods, reason = "a test program")]
#![expect(clippy::print_stdout, reason = "a test program makes its calls plainly, and says what it did")]

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::fd::AsRawFd as _,
};

/// What the server answers with to classes and commands that it does not have: `NV_ERR_INVALID_CLASS`,
/// `NV_ERR_NOT_SUPPORTED` of NVIDIA's nvstatuscodes.h.
const INVALID_CLASS: u32 = 0x22;
const NOT_SUPPORTED: u32 = 0x56;
/// Handle of the memory that the server allocates.
const CHOSEN_HANDLE: u32 = 21;

/// What differs between versions of the driver (`struct_offsets.csv`, `nvidia_uvm.csv`).
#[derive(Clone, Copy)]
struct Layout {
    /// Size of the argument of `NV_ESC_RM_ALLOC`, and where its status is.
    alloc: (u32, usize),
    /// Where it is in the one of 32 bytes.
    small_alloc: usize,
    /// Of `UVM_FREE`.
    free: (u32, usize),
    /// Of `UVM_MAP_EXTERNAL_ALLOCATION`.
    map: (u32, usize),
}

fn layout(version: &str) -> Layout {
    match version {
        "515.43.04" => Layout { alloc: (40, 32), small_alloc: 24, free: (24, 16), map: (1200, 1196) },
        "525.147.05" => Layout { alloc: (40, 36), small_alloc: 24, free: (24, 16), map: (1200, 1196) },
        "580.159.04" => Layout { alloc: (48, 40), small_alloc: 28, free: (24, 16), map: (9264, 9260) },
        "590.48.01" => Layout { alloc: (48, 40), small_alloc: 28, free: (16, 8), map: (9264, 9260) },
        other => panic!("no layout of version {other}"),
    }
}

/// Number of `_IOWR('F', number, size)`.
fn escape(number: u32, size: u32) -> u32 {
    0xc000_4600 | size << 16 | number
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn set_word(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

// ---- the server: `linux/fuse.h` ----

const IN_HEADER: usize = 40;
const OPEN: u32 = 14;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INTERRUPT: u32 = 36;
const IOCTL: u32 = 39;
const CUSE_INIT: u32 = 4096;
/// `CUSE_UNRESTRICTED_IOCTL`: the server says what is to be copied, which numbers of UVM do not.
const UNRESTRICTED: u32 = 1;
/// `FUSE_IOCTL_RETRY`.
const RETRY: u32 = 1 << 2;

/// Bytes that a command reads and writes.
fn size_of_argument(command: u32, layout: Layout) -> u32 {
    match command {
        0x3000_0001 => 16,
        34 => layout.free.0,
        33 => layout.map.0,
        _ => command >> 16 & 0x3fff,
    }
}

/// Writes the status that the driver would; the rest of the argument comes back as it was.
fn answer(command: u32, argument: &mut [u8], layout: Layout) {
    match command & 0xff {
        _ if matches!(command, 33 | 34) => {
            let at = if command == 33 { layout.map.1 } else { layout.free.1 };
            let refused = word(argument, 0) == 0xdead;
            set_word(argument, at, if refused { NOT_SUPPORTED } else { 0 });
        }
        0x2b => {
            let status = if word(argument, 12) == 0xdead { INVALID_CLASS } else { 0 };
            let at = if argument.len() == 32 { layout.small_alloc } else { layout.alloc.1 };
            set_word(argument, at, status);
        }
        0x2a => {
            let status = if word(argument, 8) >> 16 == 0x1234 { NOT_SUPPORTED } else { 0 };
            set_word(argument, 28, status);
        }
        // The driver chooses the handle of what it allocates where the caller gives none.
        0x4a if word(argument, 8) == 2 => {
            let refused = word(argument, 48) == 0xdead;
            set_word(argument, 20, if refused { NOT_SUPPORTED } else { 0 });
            if !refused {
                set_word(argument, 44, CHOSEN_HANDLE);
            }
        }
        _ => {}
    }
}

fn reply(device: &mut File, unique: u64, error: i32, body: &[u8]) {
    let mut out = ((16 + body.len()) as u32).to_le_bytes().to_vec();
    out.extend(error.to_le_bytes());
    out.extend(unique.to_le_bytes());
    out.extend(body);
    device.write_all(&out).expect("the kernel takes the reply");
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn serve(name: &str, major: u32, minor: u32, layout: Layout) {
    let mut device = OpenOptions::new().read(true).write(true).open("/dev/cuse").expect("the module cuse is loaded");
    let mut buffer = vec![0; 1 << 18];
    loop {
        let Ok(length) = device.read(&mut buffer) else { continue };
        let request = &buffer[..length];
        let (operation, unique) =
            (word(request, 4), u64::from_le_bytes(request[8..16].try_into().expect("eight bytes")));
        let body = &request[IN_HEADER..];
        match operation {
            CUSE_INIT => {
                let mut out = words(&[7, word(body, 4).min(31), 0, UNRESTRICTED, 1 << 17, 1 << 17, major, minor]);
                out.extend([0; 40]);
                out.extend(format!("DEVNAME={name}\0").bytes());
                reply(&mut device, unique, 0, &out);
            }
            // struct fuse_open_out: handle, flags, padding.
            OPEN => reply(&mut device, unique, 0, &[0; 16]),
            // struct fuse_ioctl_in: handle, flags, command, address, bytes in, bytes out, then what came in.
            IOCTL => {
                let (command, incoming) = (word(body, 12), word(body, 24));
                let size = size_of_argument(command, layout);
                if size != 0 && incoming == 0 {
                    // struct fuse_ioctl_out, then one vector of what to copy in and one of what to copy out.
                    let mut out = words(&[0, RETRY, 1, 1]);
                    for _ in 0..2 {
                        out.extend(&body[16..24]);
                        out.extend(u64::from(size).to_le_bytes());
                    }
                    reply(&mut device, unique, 0, &out);
                    continue;
                }
                let mut argument = body[32..].to_vec();
                if size != 0 {
                    answer(command, &mut argument, layout);
                }
                let mut out = words(&[0, 0, 0, 0]);
                out.extend(argument);
                reply(&mut device, unique, 0, &out);
            }
            RELEASE | FLUSH => reply(&mut device, unique, 0, &[]),
            INTERRUPT => {}
            _ => reply(&mut device, unique, -libc::ENOSYS, &[]),
        }
    }
}

// ---- the program ----

fn call(device: &File, command: u32, argument: &mut [u8]) {
    // SAFETY: the buffer is as large as the command's argument.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::Ioctl::from(command), argument.as_mut_ptr()) };
    assert_eq!(result, 0, "{command:#x}: {}", io::Error::last_os_error());
}

fn argument(size: u32, fields: &[u32]) -> Vec<u8> {
    let mut bytes = words(fields);
    bytes.resize(size as usize, 0);
    bytes
}

fn calls(version: &str, rounds: u32) {
    let layout = layout(version);
    let open = |name: &str| OpenOptions::new().read(true).write(true).open(format!("/dev/{name}")).expect(name);
    let (control, gpu, uvm) = (open("nvidiactl"), open("nvidia0"), open("nvidia-uvm"));
    let alloc = |client: u32, handle: u32, class: u32| {
        let mut bytes = argument(layout.alloc.0, &[client, client, handle, class]);
        call(&control, escape(0x2b, layout.alloc.0), &mut bytes);
        word(&bytes, layout.alloc.1)
    };
    let command = |id: u32| {
        let mut bytes = argument(32, &[1, 1, id]);
        call(&control, escape(0x2a, 32), &mut bytes);
        word(&bytes, 28)
    };
    for _ in 0..rounds {
        assert_eq!(alloc(1, 1, 0x41), 0);
        assert_eq!(alloc(1, 7, 0x3e), 0);
        assert_eq!(alloc(1, 8, 0xdead), INVALID_CLASS);
        assert_eq!(command(0x2080_0102), 0);
        assert_eq!(command(0x1234_0101), NOT_SUPPORTED);
        assert_eq!(command(0x2080_8159), 0);
        // The same in an envelope: number, size, address. What is in it is out of the server's reach, so what the driver
        // answers is there before: once success, once a refusal.
        for (id, status) in [(0x2080_0102, 0), (0x1234_0101, NOT_SUPPORTED)] {
            let mut inner = argument(32, &[1, 1, id, 0, 0, 0, 0, status]);
            let address = inner.as_mut_ptr() as u64;
            call(&control, escape(0xd3, 16), &mut argument(16, &[0x2a, 32, address as u32, (address >> 32) as u32]));
        }
        // The shorter form of an allocation, refused and not, and a second handle of what it made.
        for (class, status) in [(0xdead, INVALID_CLASS), (0x3e, 0)] {
            let mut bytes = argument(32, &[1, 1, 9, class]);
            call(&control, escape(0x2b, 32), &mut bytes);
            assert_eq!(word(&bytes, layout.small_alloc), status);
        }
        call(&control, escape(0x34, 28), &mut argument(28, &[1, 1, 31, 1, 9]));
        for handle in [9, 31] {
            call(&control, escape(0x29, 16), &mut argument(16, &[1, 1, handle, 0]));
        }
        // Frees of the known object, and of one that nobody made.
        call(&control, escape(0x29, 16), &mut argument(16, &[1, 1, 7, 0]));
        call(&control, escape(0x29, 16), &mut argument(16, &[1, 1, 99, 0]));
        // The video heap: memory whose handle the driver chooses; a refused allocation of handle 23; pages of the
        // program as 22. The first is mapped for the GPU and freed as any object, the second by the heap.
        let heap = |function: u32, own: &[u32]| {
            let mut bytes = argument(184, &[&[1, 1, function, 0, 0, 0, 0, 0, 0, 0], own].concat());
            call(&control, escape(0x4a, 184), &mut bytes);
            word(&bytes, 20)
        };
        assert_eq!(heap(2, &[0, 0, 0]), 0);
        assert_eq!(heap(2, &[0, 23, 0xdead]), NOT_SUPPORTED);
        assert_eq!(heap(27, &[22]), 0);
        call(&control, escape(0x57, 64), &mut argument(64, &[1, 1, 1, CHOSEN_HANDLE]));
        // Vulkan names the range of addresses and no memory when it unmaps.
        call(&control, escape(0x58, 48), &mut argument(48, &[1, 1, CHOSEN_HANDLE, 0]));
        call(&control, escape(0x29, 16), &mut argument(16, &[1, 1, CHOSEN_HANDLE, 0]));
        assert_eq!(heap(3, &[0, 22, 0]), 0);
        for gone in [CHOSEN_HANDLE, 22, 23] {
            call(&control, escape(0x29, 16), &mut argument(16, &[1, 1, gone, 0]));
        }
        call(&gpu, escape(0xc9, 4), &mut argument(4, &[3]));
        call(&uvm, 0x3000_0001, &mut argument(16, &[]));
        // Nothing but the status is 0.
        call(&uvm, 34, &mut argument(layout.free.0, &vec![0x77; layout.free.0 as usize / 4]));
        let mut refused = argument(layout.free.0, &[0xdead]);
        call(&uvm, 34, &mut refused);
        assert_eq!(word(&refused, layout.free.1), NOT_SUPPORTED);
        // All bits, so that a status is seen wherever it is looked for; the last word is the status.
        for first in [0xdead, 0xffff_ffff] {
            let mut bytes = vec![0xff; layout.map.0 as usize];
            set_word(&mut bytes, 0, first);
            call(&uvm, 33, &mut bytes);
            assert_eq!(word(&bytes, layout.map.1), if first == 0xdead { NOT_SUPPORTED } else { 0 });
        }
        // The kernel answers these itself, of which no driver writes a status: FIGETBSZ, FIONBIO.
        call(&uvm, 0x2, &mut [0xff; 64]);
        call(&uvm, 0x5421, &mut vec![0xff; 10_000]);
        call(&uvm, 0x5421, &mut vec![0; 10_000]);
        // A number that no version has, so that nobody knows of a status.
        call(&uvm, 0x1e3, &mut argument(8, &[5, 5]));
        // A number that no version has.
        call(&gpu, escape(0x02, 8), &mut argument(8, &[]));
    }
    for (device, name, calls, refused) in [
        ("nvidiactl", "NV_ESC_RM_ALLOC/NV01_ROOT_CLIENT", 1, 0),
        ("nvidiactl", "NV_ESC_RM_ALLOC/NV01_MEMORY_SYSTEM", 2, 0),
        ("nvidiactl", "NV_ESC_RM_ALLOC/class 0xdead", 2, 2),
        ("nvidiactl", "NV_ESC_RM_DUP_OBJECT/NV01_MEMORY_SYSTEM", 1, 0),
        ("nvidiactl", "NV_ESC_RM_CONTROL/NV2080_CTRL_CMD_GPU_GET_INFO_V2", 2, 0),
        ("nvidiactl", "NV_ESC_RM_CONTROL/unknown 0x12340101 (class 0x1234", 2, 2),
        ("nvidiactl", "NV_ESC_RM_CONTROL/opaque 0x20808159 (class 0x2080", 1, 0),
        ("nvidiactl", "NV_ESC_RM_FREE/NV01_MEMORY_SYSTEM", 3, 0),
        ("nvidiactl", "NV_ESC_RM_FREE/object of NVOS32_FUNCTION_ALLOC_SIZE", 1, 0),
        ("nvidiactl", "NV_ESC_RM_FREE/class not known", 4, 0),
        ("nvidiactl", "NV_ESC_RM_VID_HEAP_CONTROL/NVOS32_FUNCTION_ALLOC_SIZE", 2, 1),
        ("nvidiactl", "NV_ESC_RM_VID_HEAP_CONTROL/NVOS32_FUNCTION_ALLOC_OS_DESCRIPTOR", 1, 0),
        ("nvidiactl", "NV_ESC_RM_VID_HEAP_CONTROL/NVOS32_FUNCTION_FREE", 1, 0),
        ("nvidiactl", "NV_ESC_RM_MAP_MEMORY_DMA/object of NVOS32_FUNCTION_ALLOC_SIZE", 1, 0),
        ("nvidiactl", "NV_ESC_RM_UNMAP_MEMORY_DMA/object of NVOS32_FUNCTION_ALLOC_SIZE", 1, 0),
        ("nvidia0", "NV_ESC_REGISTER_FD", 1, 0),
        ("nvidia-uvm", "UVM_INITIALIZE", 1, 0),
        ("nvidia-uvm", "UVM_FREE", 2, 1),
        ("nvidia-uvm", "UVM_MAP_EXTERNAL_ALLOCATION", 2, 1),
        ("nvidia-uvm", "FIGETBSZ", 1, 0),
        ("nvidia-uvm", "FIONBIO", 2, 0),
        ("nvidia-uvm", "_IOC(_IOC_NONE", 1, 0),
        ("nvidia0", "_IOC(_IOC_READ|_IOC_WRITE", 1, 0),
    ] {
        println!("{device} {name} {} 0 {}", calls * rounds, refused * rounds);
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", version] => {
            let layout = layout(version);
            // `/dev/nvidia-uvm` gets whatever major the kernel gives, as the driver's does.
            std::thread::scope(|scope| {
                for (name, major, minor) in [("nvidiactl", 195, 255), ("nvidia0", 195, 0), ("nvidia-uvm", 0, 0)] {
                    scope.spawn(move || serve(name, major, minor, layout));
                }
            });
        }
        ["call", version, rounds] => calls(version, rounds.parse().expect("a number of rounds")),
        _ => panic!("usage: fake_nvidia serve VERSION | call VERSION ROUNDS"),
    }
}
