//! Reads member offsets from the running kernel's BTF (type information).
//!
//! One pass over the type headers and no table of names: the whole of `vmlinux` takes less
//! than half of the 20 ms that aya's parser takes (`docs/decisions/0004-own-program-loading.md`). Format: the kernel's `Documentation/bpf/btf.rst`.

use std::{
    fs::File,
    ops::{Deref, Range},
    path::Path,
};

use memmap2::{Mmap, MmapOptions};

/// Where Linux shows its own type information.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why type information could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file could not be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file is not BTF, or is cut short.
    #[error("malformed BTF: {0}")]
    Malformed(&'static str),
    /// No such structure.
    #[error("the kernel has no `struct {0}`")]
    NoStruct(String),
    /// No such typedef.
    #[error("the kernel has no type `{0}`")]
    NoTypedef(String),
    /// No such function.
    #[error("the kernel has no function `{0}`")]
    NoFunction(String),
    /// No such member.
    #[error("`struct {0}` has no member `{1}`")]
    NoMember(String, String),
    /// A member lies beyond what the kernel side copies.
    #[error("a member at offset {0} lies beyond the part of its structure that is copied")]
    TooFar(u32),
    /// The member is not at a byte boundary.
    #[error("member `{0}` is a bit field")]
    BitField(String),
}

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const FUNCTION: u32 = 12;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const TYPE_TAG: u32 = 18;

/// Members that one lookup passes at most. A structure of anonymous ones that hold each other has no end.
const MOST_MEMBERS: usize = 1 << 14;

/// A parsed blob: where each type begins.
#[derive(Debug)]
pub struct KernelBtf {
    blob: Blob,
    types: Range<usize>,
    strings: Range<usize>,
    /// By type id, where the type begins in `types`. Id 0 is `void`.
    starts: Vec<u32>,
    /// Structures and typedefs: kind, place of the name, id.
    named: Vec<(u32, u32, u32)>,
}

/// Where the bytes are.
#[derive(Debug)]
enum Blob {
    Read(Vec<u8>),
    Mapped(Mmap),
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let slice = at.checked_add(4).and_then(|end| bytes.get(at..end)).ok_or(BtfError::Malformed("cut short"))?;
    Ok(u32::from_le_bytes([slice[0], slice[1], slice[2], slice[3]]))
}

/// A type's header.
#[derive(Clone, Copy, Debug)]
struct BtfHeader {
    at: usize,
    name: u32,
    info: u32,
    size_or_type: u32,
}

impl BtfHeader {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }
    fn members(self) -> usize {
        (self.info & 0xffff) as usize
    }
}

impl KernelBtf {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// When the kernel shows none (`CONFIG_DEBUG_INFO_BTF` is off) or it is malformed.
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        Self::read(Path::new(VMLINUX))
    }

    /// Reads a file of raw BTF.
    ///
    /// # Errors
    /// As [`KernelBtf::of_running_kernel`].
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let unreadable = |source| BtfError::Unreadable { path: path.display().to_string(), source };
        let file = File::open(path).map_err(unreadable)?;
        let mapped = if path == Path::new(VMLINUX) {
            // SAFETY: the kernel's type information never changes; other files are read.
            unsafe { MmapOptions::new().map_copy_read_only(&file) }.ok()
        } else {
            None
        };
        match mapped {
            Some(mapped) => Self::of_blob(Blob::Mapped(mapped)),
            // Before Linux 6.16 it can only be read, a page at a time.
            None => Self::parse(std::fs::read(path).map_err(unreadable)?),
        }
    }

    /// Parses raw BTF.
    ///
    /// # Errors
    /// [`BtfError::Malformed`].
    pub fn parse(blob: Vec<u8>) -> Result<Self, BtfError> {
        Self::of_blob(Blob::Read(blob))
    }

    fn of_blob(blob: Blob) -> Result<Self, BtfError> {
        if blob.get(..2) != Some(&[0x9f, 0xeb]) {
            return Err(BtfError::Malformed("wrong magic"));
        }
        let header = word(&blob, 4)? as usize;
        let part = |offset: usize| -> Result<Range<usize>, BtfError> {
            let start = header.checked_add(word(&blob, offset)? as usize).ok_or(BtfError::Malformed("offset"))?;
            let end = start.checked_add(word(&blob, offset + 4)? as usize).ok_or(BtfError::Malformed("length"))?;
            if end > blob.len() {
                return Err(BtfError::Malformed("section out of bounds"));
            }
            Ok(start..end)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut btf = Self { starts: Vec::with_capacity(types.len() / 24), named: Vec::new(), blob, types, strings };
        btf.starts.push(0);
        let mut at = 0;
        while at < btf.types.len() {
            btf.starts.push(at as u32);
            let entry = btf.header_at(at)?;
            if matches!(entry.kind(), KIND_STRUCT | TYPEDEF) {
                btf.named.push((entry.kind(), entry.name, btf.starts.len() as u32 - 1));
            }
            let members = entry.members();
            at += 12
                + match entry.kind() {
                    0 | 2 | 7..=12 | 16 | 18 => 0,
                    1 | 14 | 17 => 4,
                    3 => 12,
                    KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * members,
                    6 | 13 => 8 * members,
                    _ => return Err(BtfError::Malformed("unknown kind")),
                };
        }
        Ok(btf)
    }

    fn types(&self) -> &[u8] {
        &self.blob[self.types.clone()]
    }

    fn header_at(&self, at: usize) -> Result<BtfHeader, BtfError> {
        Ok(BtfHeader {
            at,
            name: word(self.types(), at)?,
            info: word(self.types(), at + 4)?,
            size_or_type: word(self.types(), at + 8)?,
        })
    }

    fn header(&self, id: u32) -> Result<BtfHeader, BtfError> {
        let at = *self.starts.get(id as usize).filter(|_| id != 0).ok_or(BtfError::Malformed("type id"))?;
        self.header_at(at as usize)
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let Some(rest) = self.blob[self.strings.clone()].get(offset as usize..) else { return false };
        rest.strip_prefix(name.as_bytes()).is_some_and(|tail| tail.first() == Some(&0))
    }

    /// The structure behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Result<BtfHeader, BtfError> {
        for _ in 0..64 {
            let entry = self.header(id)?;
            match entry.kind() {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = entry.size_or_type,
                _ => return Ok(entry),
            }
        }
        Err(BtfError::Malformed("typedef loop"))
    }

    /// Bit offset and type of a member, looking into anonymous members.
    fn member(
        &self,
        of: BtfHeader,
        name: &str,
        depth: usize,
        left: &mut usize,
    ) -> Result<Option<(u32, u32)>, BtfError> {
        if !matches!(of.kind(), KIND_STRUCT | KIND_UNION) || depth > 16 {
            return Ok(None);
        }
        let packed = of.info >> 31 == 1;
        for index in 0..of.members() {
            *left = left.checked_sub(1).ok_or(BtfError::Malformed("too many members"))?;
            let at = of.at + 12 + 12 * index;
            let (member, kind, raw) =
                (word(self.types(), at)?, word(self.types(), at + 4)?, word(self.types(), at + 8)?);
            let (bits, width) = if packed { (raw & 0xff_ffff, raw >> 24) } else { (raw, 0) };
            if self.is_named(member, "") {
                if let Some((inner, kind)) = self.member(self.resolve(kind)?, name, depth + 1, left)? {
                    return Ok(Some((bits.saturating_add(inner), kind)));
                }
            } else if self.is_named(member, name) {
                if width != 0 {
                    return Err(BtfError::BitField(name.to_owned()));
                }
                return Ok(Some((bits, kind)));
            }
        }
        Ok(None)
    }

    /// A structure or typedef with a name, and its id.
    fn find(&self, kind: u32, name: &str) -> Result<Option<(u32, BtfHeader)>, BtfError> {
        // A name is there once, or where a writer did not care, more often: its first place is tried first.
        let with_ends = [b"\0", name.as_bytes(), b"\0"].concat();
        let first = memchr::memmem::find(&self.blob[self.strings.clone()], &with_ends).map(|at| at as u32 + 1);
        let of_kind = || self.named.iter().filter(|(found, ..)| *found == kind);
        let found = of_kind()
            .find(|(_, place, _)| Some(*place) == first)
            .or_else(|| of_kind().find(|(_, place, _)| self.is_named(*place, name)));
        found.map(|&(_, _, id)| Ok((id, self.header(id)?))).transpose()
    }

    /// Id of a typedef. The kernel gives each tracepoint one, `btf_trace_NAME`.
    ///
    /// # Errors
    /// [`BtfError::NoTypedef`].
    pub fn id_of_typedef(&self, name: &str) -> Result<u32, BtfError> {
        self.find(TYPEDEF, name)?.map(|(id, _)| id).ok_or_else(|| BtfError::NoTypedef(name.to_owned()))
    }

    /// Id of a function. There are more of them than of all else, so they are not kept by name.
    ///
    /// # Errors
    /// [`BtfError::NoFunction`].
    pub fn id_of_function(&self, name: &str) -> Result<u32, BtfError> {
        let mut ids = (1_u32..).zip(self.starts.iter().skip(1));
        let found = ids.find(|&(_, &at)| {
            self.header_at(at as usize).is_ok_and(|entry| entry.kind() == FUNCTION && self.is_named(entry.name, name))
        });
        found.map(|(id, _)| id).ok_or_else(|| BtfError::NoFunction(name.to_owned()))
    }

    /// A structure, to ask for offsets of its members.
    ///
    /// # Errors
    /// [`BtfError::NoStruct`].
    pub fn structure(&self, name: &str) -> Result<Structure<'_>, BtfError> {
        let (id, entry) = self.find(KIND_STRUCT, name)?.ok_or_else(|| BtfError::NoStruct(name.to_owned()))?;
        Ok(Structure { btf: self, name: name.to_owned(), id, entry })
    }
}

/// A structure of the kernel.
#[derive(Debug)]
pub struct Structure<'a> {
    btf: &'a KernelBtf,
    name: String,
    id: u32,
    entry: BtfHeader,
}

impl Structure<'_> {
    /// Its type id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.entry.size_or_type
    }

    /// Byte offset of `path`, members joined by dots.
    ///
    /// # Errors
    /// When a member does not exist or is a bit field.
    pub fn offset_of(&self, path: &str) -> Result<u32, BtfError> {
        let mut current = self.entry;
        let (mut bits, mut left) = (0_u32, MOST_MEMBERS);
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let (more, kind) = self
                .btf
                .member(current, part, 0, &mut left)?
                .ok_or_else(|| BtfError::NoMember(self.name.clone(), path.to_owned()))?;
            bits = bits.saturating_add(more);
            if parts.peek().is_some() {
                current = self.btf.resolve(kind)?;
            }
        }
        Ok(bits / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// struct outer { int a; union { int b; struct { int pad; int c; }; }; } as a compiler writes it.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0pad\0c\0";
        let name = |text: &str| {
            let with_end = [text.as_bytes(), b"\0"].concat();
            strings.windows(with_end.len()).position(|w| w == with_end).unwrap() as u32
        };
        let mut words: Vec<u32> = vec![name("int"), 1 << 24, 4, 32]; // 1: int
        words.extend([0, 4 << 24 | 2, 8, name("pad"), 1, 0, name("c"), 1, 32]); // 2: anonymous struct
        words.extend([0, 5 << 24 | 2, 8, name("b"), 1, 0, 0, 2, 0]); // 3: anonymous union
        words.extend([name("outer"), 4 << 24 | 2, 12, name("a"), 1, 0, 0, 3, 32]); // 4: struct outer
        words.extend([0, 13 << 24, 1]); // 5: int (void)
        words.extend([name("c"), 12 << 24 | 1, 5]); // 6: int c(void)
        let types: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        for value in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            blob.extend(value.to_le_bytes());
        }
        blob.extend(types);
        blob.extend(strings);
        blob
    }

    #[test]
    fn finds_members_inside_anonymous_ones() {
        let btf = KernelBtf::parse(sample()).unwrap();
        let outer = btf.structure("outer").unwrap();
        assert_eq!(outer.offset_of("a").unwrap(), 0);
        assert_eq!(outer.offset_of("b").unwrap(), 4);
        assert_eq!(outer.offset_of("c").unwrap(), 8);
        assert!(matches!(outer.offset_of("x"), Err(BtfError::NoMember(..))));
        assert!(matches!(btf.structure("inner"), Err(BtfError::NoStruct(_))));
        assert!(matches!(btf.id_of_typedef("outer"), Err(BtfError::NoTypedef(_))));
        assert_eq!(outer.id(), 4);
        assert_eq!(btf.id_of_function("c").unwrap(), 6);
        assert!(matches!(btf.id_of_function("outer"), Err(BtfError::NoFunction(_))));
    }

    #[test]
    fn structures_inside_themselves_come_to_an_end() {
        let mut words: Vec<u32> = vec![1, 4 << 24 | 8, 4];
        words.extend([0, 1, 0].repeat(8));
        let types: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        for value in [24, 0, types.len() as u32, types.len() as u32, 3] {
            blob.extend(value.to_le_bytes());
        }
        let btf = KernelBtf::parse([blob, types, b"\0s\0".to_vec()].concat()).unwrap();
        assert!(matches!(btf.structure("s").unwrap().offset_of("a"), Err(BtfError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn never_panics(mut blob in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..120, value: u8, damage: bool) {
            if damage {
                blob = sample();
                let at = at % blob.len();
                blob[at] = value;
            }
            if let Ok(btf) = KernelBtf::parse(blob)
                && let Ok(outer) = btf.structure("outer")
            {
                let _ = outer.offset_of("c");
                let _ = outer.offset_of("a.b.c");
            }
        }
    }
}
