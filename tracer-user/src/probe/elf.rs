//! Symbols of ELF files that somebody else may change while they are read. Nothing is mapped: a file that is cut short is an
//! error, and no signal. How much is read is bounded, whatever the file says of its sizes.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use object::{
    Endianness, ReadCache,
    elf::{FileHeader32, FileHeader64, PT_LOAD, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC},
    read::{
        SectionIndex,
        elf::{FileHeader, ProgramHeader as _, SectionHeader as _, Sym as _},
    },
};

/// The largest table of symbols that is read, in bytes: eleven million symbols.
const MOST_BYTES: u64 = 256 << 20;
/// The longest name that is read, in bytes.
const LONGEST_NAME: usize = 4096;
/// `PN_XNUM` of the kernel's `elf.h`: there are more program headers than fit here. No library has so many.
const MANY_HEADERS: u16 = 0xffff;

/// Which table of symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// That of all symbols, and where there is none, that of exported ones.
    Full,
    /// That of exported symbols.
    Exported,
}

/// A function.
#[derive(Clone, Copy, Debug)]
struct Function {
    address: u64,
    /// 0: up to the next one.
    size: u64,
    /// Where its name begins, from the beginning of the names.
    name: u64,
}

/// A part of the file that is loaded: place in the file, size there, address.
#[derive(Clone, Copy, Debug)]
struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// The functions of a file.
#[derive(Debug)]
pub(crate) struct Symbols {
    file: File,
    /// By address, the largest first where several have one.
    functions: Vec<Function>,
    segments: Vec<Segment>,
    /// Where the names are, and how many bytes.
    names: (u64, u64),
}

impl Symbols {
    /// Reads a table.
    ///
    /// # Errors
    /// It is no ELF file, or one that makes no sense.
    pub(crate) fn read(file: File, table: Table) -> io::Result<Self> {
        let no_sense = || io::Error::new(io::ErrorKind::InvalidData, "it is no ELF file, or damaged");
        let mut class = [0; 5];
        file.read_exact_at(&mut class, 0)?;
        let found = match class {
            [0x7f, b'E', b'L', b'F', 1] => parts::<FileHeader32<Endianness>>(&file, table),
            [0x7f, b'E', b'L', b'F', 2] => parts::<FileHeader64<Endianness>>(&file, table),
            _ => None,
        };
        let Parts { mut functions, segments, names } = found.ok_or_else(no_sense)?;
        functions.sort_by_key(|function| (function.address, std::cmp::Reverse(function.size)));
        Ok(Self { file, functions, segments, names })
    }

    /// Name of the function at a place in the file.
    pub(crate) fn at(&self, offset: u64) -> Option<String> {
        let segment = self
            .segments
            .iter()
            .find(|segment| offset.checked_sub(segment.offset).is_some_and(|inside| inside < segment.size))?;
        let address = segment.address.wrapping_add(offset - segment.offset);
        let next = self.functions.partition_point(|function| function.address <= address);
        let begin = self.functions[..next].last()?.address;
        // Of several names, the first of the largest.
        let function = &self.functions[self.functions.partition_point(|function| function.address < begin)];
        let is_inside = function.size == 0 || address - function.address < function.size;
        if is_inside { self.name(function) } else { None }
    }

    /// Every function with its name and its place in the file.
    pub(crate) fn all(&self) -> impl Iterator<Item = (String, u64)> {
        self.functions.iter().filter_map(|function| {
            let segment = self.segments.iter().find(|segment| {
                function.address.checked_sub(segment.address).is_some_and(|inside| inside < segment.size)
            })?;
            Some((self.name(function)?, segment.offset + (function.address - segment.address)))
        })
    }

    fn name(&self, function: &Function) -> Option<String> {
        let (begin, size) = self.names;
        let room = usize::try_from(size.checked_sub(function.name)?).unwrap_or(usize::MAX);
        let mut bytes = [0; LONGEST_NAME];
        let bytes = bytes.get_mut(..room.min(LONGEST_NAME))?;
        let length = self.file.read_at(bytes, begin.checked_add(function.name)?).ok()?;
        let end = bytes[..length].iter().position(|&byte| byte == 0)?;
        (end != 0).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

/// What is read at once.
struct Parts {
    functions: Vec<Function>,
    segments: Vec<Segment>,
    names: (u64, u64),
}

fn parts<Elf: FileHeader<Endian = Endianness>>(file: &File, table: Table) -> Option<Parts> {
    let cache = ReadCache::new(file);
    let header = Elf::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    // Numbers that do not fit there stand elsewhere, and may be anything.
    if header.e_shnum(endian) == 0 || header.e_phnum(endian) == MANY_HEADERS {
        return None;
    }
    let loaded = header.program_headers(endian, &cache).ok()?.iter().filter(|part| part.p_type(endian) == PT_LOAD);
    let segments = loaded.map(|part| Segment {
        offset: part.p_offset(endian).into(),
        size: part.p_filesz(endian).into(),
        address: part.p_vaddr(endian).into(),
    });
    let segments = segments.collect();
    let sections = header.sections(endian, &cache).ok()?;
    let kinds: &[object::elf::SectionType] =
        if table == Table::Full { &[SHT_SYMTAB, SHT_DYNSYM] } else { &[SHT_DYNSYM] };
    let mut tables = kinds.iter().filter_map(|kind| sections.iter().find(|section| section.sh_type(endian) == *kind));
    let symbols = tables.find(|section| section.sh_size(endian).into() <= MOST_BYTES)?;
    let names = sections.section(SectionIndex(symbols.sh_link(endian) as usize)).ok()?;
    let names = (names.sh_offset(endian).into(), names.sh_size(endian).into());
    let symbols: &[Elf::Sym] = symbols.data_as_array(endian, &cache).ok()?;
    let functions = symbols
        .iter()
        .filter(|symbol| matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC) && symbol.st_shndx(endian) != SHN_UNDEF);
    let functions = functions.map(|symbol| Function {
        address: symbol.st_value(endian).into(),
        size: symbol.st_size(endian).into(),
        name: symbol.st_name(endian).into(),
    });
    Some(Parts { functions: functions.collect(), segments, names })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use gpuos_host::files::open_regular;
    use proptest::prelude::*;

    use super::*;

    fn this_program() -> File {
        open_regular(&std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn functions_of_this_program_are_found() {
        let symbols = Symbols::read(this_program(), Table::Full).unwrap();
        let (name, offset) = symbols.all().find(|(name, _)| name.contains("functions_of_this_program")).unwrap();
        assert_eq!(symbols.at(offset), Some(name));
        assert_eq!(symbols.at(u64::MAX), None);
        assert!(Symbols::read(File::open("/proc/version").unwrap(), Table::Full).is_err());
    }

    #[test]
    fn a_file_that_is_cut_short_has_no_names() {
        let mut copy = tempfile::NamedTempFile::new().unwrap();
        io::copy(&mut this_program(), &mut copy).unwrap();
        let symbols = Symbols::read(open_regular(copy.path()).unwrap(), Table::Full).unwrap();
        let (name, offset) = symbols.all().next().unwrap();
        assert_eq!(symbols.at(offset), Some(name));
        copy.as_file().set_len(4096).unwrap();
        assert_eq!(symbols.at(offset), None);
        assert!(Symbols::read(open_regular(copy.path()).unwrap(), Table::Full).is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_file_says_nothing_is_asked_for_that_it_has_not(place in 0_usize..4096, bytes in prop::collection::vec(any::<u8>(), 1..9), length in 0_u64..4000) {
            let mut head = vec![0; 16 << 10];
            this_program().read_exact_at(&mut head, 0).unwrap();
            head[place..place + bytes.len()].copy_from_slice(&bytes);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&head).unwrap();
            // As sparse a file as anybody can make.
            file.set_len(length << 30).unwrap();
            if let Ok(symbols) = Symbols::read(file, Table::Full) {
                symbols.at(0x1000);
            }
        }
    }
}
