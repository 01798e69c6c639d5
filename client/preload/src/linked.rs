//! Programs that are linked with CUDA's driver or with HIP, and their libraries: the loader has put the addresses of those functions into
//! tables of theirs when this library starts. There they are exchanged for its places. Nothing is exported for it, since a name that is
//! exported makes weak references of programs without a GPU true. What `dlopen` loads later is not looked at.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    counts::{Parts, parts},
    forms::{exchange, is_symbol},
    runtimes, symbols,
};

/// Relocations that are the address of a symbol, from `elf.h`: in a table of the linker, of data and of calls.
#[cfg(target_arch = "x86_64")]
const OF_DATA_AND_CALLS: [u32; 2] = [6, 7];
/// See above.
#[cfg(target_arch = "aarch64")]
const OF_DATA_AND_CALLS: [u32; 2] = [1025, 1026];

/// The loader calls it when it starts this library.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    if parts() == Parts::default() {
        return;
    }
    runtimes::find();
    // SAFETY: the function is one for this, and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(hip_of), std::ptr::null_mut()) };
    if symbols::of_driver(c"cuInit").is_some() || runtimes::hip_file().is_some() {
        // SAFETY: as above.
        unsafe { libc::dl_iterate_phdr(Some(of_object), std::ptr::null_mut()) };
    }
}

/// The file of a function, by where it begins.
fn base_of(function: *const c_void) -> usize {
    // SAFETY: plain data.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: writes the structure.
    let found = unsafe { libc::dladdr(function, &raw mut info) };
    if found == 0 { 0 } else { info.dli_fbase as usize }
}

/// A runtime's function, of the libraries that are loaded.
fn of_runtime(name: &CStr) -> Option<*mut c_void> {
    if name.to_bytes().starts_with(b"cu") {
        symbols::of_driver(name)
    } else {
        symbols::of_library(runtimes::hip_file()?, name)
    }
}

/// Tables of one loaded object.
struct Tables {
    /// What is added to addresses in the file.
    base: usize,
    strings: usize,
    symbols: usize,
    /// Where relocations are, and how many bytes of them.
    relocations: [(usize, usize); 2],
    /// Where it is, and the part that cannot be written to any more.
    all: std::ops::Range<usize>,
    read_only: std::ops::Range<usize>,
}

impl Tables {
    /// Of an object that the loader has loaded.
    ///
    /// # Safety
    /// `info` is one of `dl_iterate_phdr`.
    unsafe fn of(info: &libc::dl_phdr_info) -> Option<Self> {
        const DYNAMIC: u32 = 2;
        const LOAD: u32 = 1;
        const RELRO: u32 = 0x6474_e552;
        let base = info.dlpi_addr as usize;
        // SAFETY: as the caller promises.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let range = |header: &libc::Elf64_Phdr| {
            let start = base + header.p_vaddr as usize;
            start..start + header.p_memsz as usize
        };
        let of_kind = |kind: u32| headers.iter().filter(move |header| header.p_type == kind).map(range);
        let dynamic = of_kind(DYNAMIC).next()?;
        let start = of_kind(LOAD).map(|range| range.start).min()?;
        let all = start..of_kind(LOAD).map(|range| range.end).max()?;
        let read_only = of_kind(RELRO).next().unwrap_or(0..0);
        // Addresses in the table are those of memory where the loader has changed them, and those of the file elsewhere.
        let address = |value: usize| if value >= all.start { value } else { base + value };
        let mut tables = Self { base, strings: 0, symbols: 0, relocations: [(0, 0); 2], all: all.clone(), read_only };
        let entries = dynamic.len() / size_of::<[usize; 2]>();
        for place in 0..entries {
            // SAFETY: within the table.
            let [tag, value] =
                unsafe { ((dynamic.start + place * size_of::<[usize; 2]>()) as *const [usize; 2]).read() };
            // Tags of `elf.h`: NULL, PLTRELSZ, STRTAB, SYMTAB, RELA, RELASZ, JMPREL.
            match tag {
                0 => break,
                2 => tables.relocations[1].1 = value,
                5 => tables.strings = address(value),
                6 => tables.symbols = address(value),
                7 => tables.relocations[0].0 = address(value),
                8 => tables.relocations[0].1 = value,
                23 => tables.relocations[1].0 = address(value),
                _ => {}
            }
        }
        (tables.strings != 0 && tables.symbols != 0).then_some(tables)
    }

    /// Exchanges what is the driver's.
    ///
    /// # Safety
    /// The object stays loaded meanwhile.
    unsafe fn exchange(&self) {
        for (start, bytes) in self.relocations.into_iter().filter(|(start, _)| *start != 0) {
            for place in 0..bytes / size_of::<libc::Elf64_Rela>() {
                // SAFETY: within the table.
                let relocation =
                    unsafe { ((start + place * size_of::<libc::Elf64_Rela>()) as *const libc::Elf64_Rela).read() };
                let (kind, symbol) = (relocation.r_info as u32, (relocation.r_info >> 32) as usize);
                if symbol == 0 || !OF_DATA_AND_CALLS.contains(&kind) {
                    continue;
                }
                // SAFETY: a symbol that the object's own relocation has.
                let entry = unsafe {
                    ((self.symbols + symbol * size_of::<libc::Elf64_Sym>()) as *const libc::Elf64_Sym).read()
                };
                // SAFETY: its name, which a 0 closes.
                let name = unsafe { CStr::from_ptr((self.strings + entry.st_name as usize) as *const c_char) };
                if is_symbol(name) {
                    self.exchange_at(self.base + relocation.r_offset as usize, name);
                }
            }
        }
    }

    /// Exchanges the address of a function at a place, where it is the driver's or has not been looked for yet.
    fn exchange_at(&self, place: usize, name: &CStr) {
        let Some(function) = of_runtime(name) else { return };
        let exchanged = exchange(name.to_str().unwrap_or_default(), function as usize, false);
        // SAFETY: a word of the object's table, aligned.
        let word = unsafe { AtomicUsize::from_ptr(place as *mut usize) };
        let now = word.load(Ordering::Acquire);
        if exchanged == function as usize || (now != function as usize && !self.all.contains(&now)) {
            return;
        }
        if !self.read_only.contains(&place) {
            word.store(exchanged, Ordering::Release);
            return;
        }
        // SAFETY: has no arguments but a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.cast_unsigned() as usize;
        let start = (place & !(page - 1)) as *mut c_void;
        // SAFETY: a page of the object's, which has been written to until now.
        if unsafe { libc::mprotect(start, page, libc::PROT_READ | libc::PROT_WRITE) } == 0 {
            word.store(exchanged, Ordering::Release);
            // SAFETY: as it was.
            unsafe { libc::mprotect(start, page, libc::PROT_READ) };
        }
    }
}

/// Finds HIP among the loaded objects.
unsafe extern "C" fn hip_of(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the loader's own.
    if let Some(info) = unsafe { info.as_ref() }
        && !info.dlpi_name.is_null()
    {
        // SAFETY: the loader's own text.
        let file = unsafe { CStr::from_ptr(info.dlpi_name) };
        if runtimes::is_hip(file) {
            runtimes::find_hip(file);
        }
    }
    0
}

unsafe extern "C" fn of_object(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the loader's own.
    let Some(info) = (unsafe { info.as_ref() }) else { return 0 };
    // SAFETY: as the loader gives it.
    let Some(tables) = (unsafe { Tables::of(info) }) else { return 0 };
    let runtimes = [c"cuInit", c"hipInit"].map(|name| of_runtime(name).map_or(0, |function| base_of(function)));
    let own = base_of(start as *const c_void);
    if tables.all.start != own && !runtimes.contains(&tables.all.start) {
        // SAFETY: nothing is unloaded meanwhile: the loader holds its lock.
        unsafe { tables.exchange() };
    }
    0
}
