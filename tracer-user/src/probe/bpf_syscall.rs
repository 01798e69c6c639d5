//! `bpf(2)` commands that aya 0.14 does not offer: task storage by pidfd, batches, programs by type id. Maps come here as
//! bytes; `map.rs` knows what they hold.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_insn, bpf_map_info, bpf_map_type, bpf_prog_type};
use gpuos_host::fds::new_fd;

use super::{attach_point::AttachPoint, no_preempt};

// Command numbers from the kernel's `include/uapi/linux/bpf.h`, `enum bpf_cmd`.
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BTF_LOAD: libc::c_int = 18;
const MAP_FREEZE: libc::c_int = 22;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const MAP_DELETE_BATCH: libc::c_int = 27;
const LINK_CREATE: libc::c_int = 28;

/// `BPF_ANY`: a new element, or another value of one.
pub(super) const ANY: u64 = 0;
/// `BPF_NOEXIST`: only a new element.
pub(super) const NOEXIST: u64 = 1;

#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i32> {
    let _kept = matches!(command, MAP_UPDATE_ELEM | MAP_LOOKUP_BATCH | MAP_DELETE_BATCH).then(no_preempt::begin);
    // SAFETY: every attribute type here is a prefix of `union bpf_attr` whose pointers outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Likewise, for the commands that return a new fd.
fn bpf_fd<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    bpf(command, attr).and_then(|fd| {
        // SAFETY: what these commands return is new.
        unsafe { new_fd(fd.into()) }
    })
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: plain data, for which zero is valid.
    unsafe { std::mem::zeroed() }
}

/// Gives the kernel type information of an object.
///
/// # Errors
/// What the kernel says.
pub(super) fn load_type_information(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: this command reads this part of the union.
    let part = unsafe { &mut attr.__bindgen_anon_7 };
    part.btf = btf.as_ptr() as u64;
    part.btf_size = btf.len() as u32;
    bpf_fd(BTF_LOAD, &mut attr)
}

/// Writes the only element of an array and makes the map constant, for programs and for user space.
///
/// # Errors
/// What the kernel says; `InvalidInput` when the element has another size.
pub(super) fn fill_and_freeze(map: BorrowedFd<'_>, data: &[u8]) -> io::Result<()> {
    let facts = map_facts(map)?;
    if (facts.key_size, facts.value_size as usize, facts.is_per_cpu) != (4, data.len(), false) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let key = 0_u32;
    let mut attr = ElementAttr {
        map: map.as_raw_fd() as u32,
        key: std::ptr::from_ref(&key) as u64,
        value: data.as_ptr() as u64,
        ..Default::default()
    };
    bpf(MAP_UPDATE_ELEM, &mut attr)?;
    bpf(MAP_FREEZE, &mut ElementAttr { map: map.as_raw_fd() as u32, ..Default::default() })?;
    Ok(())
}

/// A program for the kernel.
pub(super) struct ProgramRequest<'a> {
    /// Its name; the kernel keeps 15 characters.
    pub name: &'a str,
    /// Relocated instructions.
    pub instructions: &'a [bpf_insn],
    /// Decides which helpers it may call.
    pub license: &'a CStr,
    /// The object's BTF.
    pub type_information: Option<BorrowedFd<'a>>,
    /// `bpf_func_info` records.
    pub functions: &'a [u8],
    /// Bytes of one of them.
    pub function_size: usize,
    /// What it will be attached to.
    pub(super) place: AttachPoint,
}

/// Why the kernel refused a program.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The error number.
    pub error: io::Error,
    /// What the verifier said.
    pub log: String,
}

/// Loads a program; only when it is refused, again with the verifier's log.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn load_program(request: &ProgramRequest<'_>) -> Result<OwnedFd, Refusal> {
    let mut attr = zeroed_attr();
    // SAFETY: this command reads this part of the union.
    let part = unsafe { &mut attr.__bindgen_anon_3 };
    for (to, from) in part.prog_name.iter_mut().zip(request.name.bytes().take(15)) {
        *to = from as libc::c_char;
    }
    part.insns = request.instructions.as_ptr() as u64;
    part.insn_cnt = request.instructions.len() as u32;
    part.license = request.license.as_ptr() as u64;
    if let Some(btf) = request.type_information {
        part.prog_btf_fd = btf.as_raw_fd() as u32;
        part.func_info = request.functions.as_ptr() as u64;
        part.func_info_rec_size = request.function_size as u32;
        part.func_info_cnt = request.functions.len().checked_div(request.function_size).unwrap_or(0) as u32;
    }
    match request.place {
        AttachPoint::Typed(id) => {
            part.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
            part.expected_attach_type = bpf_attach_type::BPF_TRACE_RAW_TP as u32;
            part.attach_btf_id = id;
        }
        AttachPoint::Raw(_) => part.prog_type = bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT as u32,
        AttachPoint::Points(_) => part.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACEPOINT as u32,
        AttachPoint::Function { .. } => part.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32,
        AttachPoint::Library { .. } => {
            part.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
            part.expected_attach_type = TRACE_UPROBE_MULTI;
        }
    }
    match bpf_fd(PROG_LOAD, &mut attr) {
        Ok(program) => return Ok(program),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Err(Refusal { error, log: String::new() }),
        Err(_) => {}
    }
    // The reason stands at its end, and kernels before 6.4 keep the beginning of what is too long.
    let mut log = vec![0_u8; 64 << 20];
    // SAFETY: as above.
    let part = unsafe { &mut attr.__bindgen_anon_3 };
    part.log_level = 1;
    part.log_buf = log.as_mut_ptr() as u64;
    part.log_size = log.len() as u32;
    bpf_fd(PROG_LOAD, &mut attr).map_err(|error| {
        let length = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
        Refusal { error, log: String::from_utf8_lossy(&log[..length]).into_owned() }
    })
}

/// Attaches a program to a raw tracepoint, or a typed one to its own, until the link is dropped.
///
/// # Errors
/// What the kernel says.
pub(super) fn open_raw_tracepoint(program: BorrowedFd<'_>, tracepoint: Option<&str>) -> io::Result<OwnedFd> {
    let name = tracepoint.map(CString::new).transpose()?;
    let mut attr = zeroed_attr();
    attr.raw_tracepoint.name = name.as_ref().map_or(0, |name| name.as_ptr() as u64);
    attr.raw_tracepoint.prog_fd = program.as_raw_fd() as u32;
    bpf_fd(RAW_TRACEPOINT_OPEN, &mut attr)
}

/// Attaches a program to functions of a file, by their places in it, each with a number that the program can ask for,
/// until the link is dropped.
///
/// # Errors
/// What the kernel says.
pub(super) fn link_to_functions(
    program: BorrowedFd<'_>,
    path: &CStr,
    offsets: &[u64],
    numbers: &[u64],
    at_return: bool,
) -> io::Result<OwnedFd> {
    bpf_fd(
        LINK_CREATE,
        &mut FunctionsAttr {
            program: program.as_raw_fd() as u32,
            target: 0,
            kind: TRACE_UPROBE_MULTI,
            flags: 0,
            path: path.as_ptr() as u64,
            offsets: offsets.as_ptr() as u64,
            reference_counters: 0,
            numbers: numbers.as_ptr() as u64,
            count: offsets.len().min(numbers.len()) as u32,
            // BPF_F_UPROBE_MULTI_RETURN
            return_flag: u32::from(at_return),
            pid: 0,
            padding: 0,
        },
    )
}

/// `BPF_TRACE_UPROBE_MULTI` of `enum bpf_attach_type`.
const TRACE_UPROBE_MULTI: u32 = 48;

#[repr(C)]
struct FunctionsAttr {
    program: u32,
    target: u32,
    kind: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    reference_counters: u64,
    numbers: u64,
    count: u32,
    return_flag: u32,
    pid: u32,
    padding: u32,
}

#[repr(C)]
struct InfoAttr {
    object: u32,
    length: u32,
    info: u64,
}

/// What the kernel says of a loaded program.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProgramFacts {
    /// How often it was skipped because it was running already on that CPU (Linux 5.12; 0 before).
    pub recursion_misses: u64,
    /// Its number in the kernel.
    #[cfg_attr(not(feature = "bpf-log"), expect(dead_code, reason = "the reader of the log asks for it"))]
    pub id: u32,
    /// Instructions that the verifier looked at (Linux 5.16; 0 before).
    pub verified_instructions: u32,
}

/// Asks the kernel about a program.
///
/// # Errors
/// What the kernel says.
pub(super) fn facts_of(program: BorrowedFd<'_>) -> io::Result<ProgramFacts> {
    // SAFETY: plain data, for which zero is valid.
    let mut info: aya_obj::generated::bpf_prog_info = unsafe { std::mem::zeroed() };
    bpf(
        OBJ_GET_INFO_BY_FD,
        &mut InfoAttr {
            object: program.as_raw_fd() as u32,
            length: size_of_val(&info) as u32,
            info: std::ptr::from_mut(&mut info) as u64,
        },
    )?;
    Ok(ProgramFacts {
        recursion_misses: info.recursion_misses,
        id: info.id,
        verified_instructions: info.verified_insns,
    })
}

/// Kinds of maps that have a value for each CPU.
const PER_CPU: [bpf_map_type; 4] = [
    bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH,
    bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY,
    bpf_map_type::BPF_MAP_TYPE_LRU_PERCPU_HASH,
    bpf_map_type::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
];

/// What the kernel says of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapFacts {
    /// Bytes of a key; 0 of a stack.
    pub(super) key_size: u32,
    /// Bytes of a value.
    pub(super) value_size: u32,
    /// How many entries there can be.
    pub(super) max_entries: u32,
    /// Whether it is a hash.
    pub(super) is_hash: bool,
    /// Whether it is a ring buffer.
    pub(super) is_ring: bool,
    /// Whether each CPU has a value of its own: a lookup then writes as many values as there are CPUs.
    pub(super) is_per_cpu: bool,
}

/// Asks the kernel about a map.
///
/// # Errors
/// What the kernel says.
pub(super) fn map_facts(map: BorrowedFd<'_>) -> io::Result<MapFacts> {
    // SAFETY: plain data, for which zero is valid.
    let mut info: bpf_map_info = unsafe { std::mem::zeroed() };
    bpf(
        OBJ_GET_INFO_BY_FD,
        &mut InfoAttr {
            object: map.as_raw_fd() as u32,
            length: size_of_val(&info) as u32,
            info: std::ptr::from_mut(&mut info) as u64,
        },
    )?;
    let of_kind = |kind: &bpf_map_type| *kind as u32 == info.type_;
    Ok(MapFacts {
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        is_hash: [bpf_map_type::BPF_MAP_TYPE_HASH, bpf_map_type::BPF_MAP_TYPE_LRU_HASH].iter().any(of_kind),
        is_ring: of_kind(&bpf_map_type::BPF_MAP_TYPE_RINGBUF),
        is_per_cpu: PER_CPU.iter().any(of_kind),
    })
}

/// Address of some bytes for the kernel; 0 of none.
fn address(bytes: &[u8]) -> u64 {
    if bytes.is_empty() { 0 } else { bytes.as_ptr() as u64 }
}

/// Writes a value.
///
/// # Safety
/// Key and value have as many bytes as [`map_facts`] says, and the map is none with values for each CPU.
///
/// # Errors
/// What the kernel says.
pub(super) unsafe fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    let map = map.as_raw_fd() as u32;
    let mut attr = ElementAttr { map, padding: 0, key: address(key), value: address(value), flags };
    bpf(MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Reads a value.
///
/// # Safety
/// As of [`update`].
///
/// # Errors
/// What the kernel says; `ENOENT` when there is none.
pub(super) unsafe fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let map = map.as_raw_fd() as u32;
    let mut attr = ElementAttr { map, padding: 0, key: address(key), value: value.as_mut_ptr() as u64, flags: 0 };
    bpf(MAP_LOOKUP_ELEM, &mut attr).map(drop)
}

/// What came of reading some entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// How many there are.
    pub(super) count: u32,
    /// Where the next ones begin: for a hash a bucket.
    pub(super) position: u32,
    /// There are no more.
    pub(super) is_last: bool,
    /// A bucket had more of them than there was room for.
    pub(super) is_short_of_room: bool,
}

/// Reads up to `count` entries of a hash, from a position on.
///
/// # Safety
/// The map is a hash without values for each CPU, and there is room for so many keys and values.
///
/// # Errors
/// What the kernel says.
pub(super) unsafe fn lookup_batch(
    map: BorrowedFd<'_>,
    position: Option<u32>,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<Batch> {
    let mut next = 0_u32;
    let mut attr = BatchAttr {
        in_batch: position.as_ref().map_or(0, |position| std::ptr::from_ref(position) as u64),
        out_batch: std::ptr::from_mut(&mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map: map.as_raw_fd() as u32,
        ..Default::default()
    };
    let done = bpf(MAP_LOOKUP_BATCH, &mut attr);
    let (is_last, is_short_of_room) = match done.as_ref().err().and_then(io::Error::raw_os_error) {
        Some(libc::ENOENT) => (true, false),
        Some(libc::ENOSPC) => (false, true),
        _ => {
            done?;
            (false, false)
        }
    };
    Ok(Batch { count: attr.count, position: next, is_last, is_short_of_room })
}

/// Deletes `count` entries of a hash. `Some` when it stopped at one that was gone: how many it deleted before.
///
/// # Safety
/// The map is a hash, and there are so many keys.
///
/// # Errors
/// What the kernel says.
pub(super) unsafe fn delete_batch(map: BorrowedFd<'_>, keys: &[u8], count: u32) -> io::Result<Option<u32>> {
    let mut attr = BatchAttr { keys: address(keys), count, map: map.as_raw_fd() as u32, ..Default::default() };
    match bpf(MAP_DELETE_BATCH, &mut attr) {
        Ok(_) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Some(attr.count)),
        Err(error) => Err(error),
    }
}
