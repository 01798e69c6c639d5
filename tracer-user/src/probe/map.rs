//! Maps as what they hold: a key and a value of fixed layout, compared with what the kernel says of the map.

use std::{
    io,
    marker::PhantomData,
    num::NonZeroUsize,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use bytemuck::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::bpf_syscall;

/// A map whose keys and values have the sizes of these types. The key of a stack is `()`, that of task storage the
/// fd of a task.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    fd: OwnedFd,
    is_hash: bool,
    of: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Map<K, V> {
    /// A map by its fd.
    ///
    /// # Errors
    /// `InvalidData` when the kernel says that its keys or values have other sizes, or that each CPU has a value of its own.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let facts = bpf_syscall::map_facts(fd.as_fd())?;
        let expected = (size_of::<K>() as u32, size_of::<V>() as u32);
        if (facts.key_size, facts.value_size) != expected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "keys and values of the map have {} and {} bytes, not {} and {}",
                    facts.key_size, facts.value_size, expected.0, expected.1
                ),
            ));
        }
        if facts.is_per_cpu {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "each CPU has a value of its own in the map"));
        }
        Ok(Self { fd, is_hash: facts.is_hash, of: PhantomData })
    }

    fn must_be_hash(&self) -> io::Result<()> {
        if self.is_hash { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "the map is no hash")) }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The value at a key.
    ///
    /// # Errors
    /// What the kernel says; `ENOENT` when there is none.
    pub(super) fn get(&self, key: &K) -> io::Result<V> {
        let mut value = V::zeroed();
        // SAFETY: the sizes were compared when this was made.
        unsafe { bpf_syscall::lookup(self.fd(), bytemuck::bytes_of(key), bytemuck::bytes_of_mut(&mut value)) }?;
        Ok(value)
    }

    /// Sets the value at a key, whether or not there is one.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn set(&self, key: &K, value: &V) -> io::Result<()> {
        // SAFETY: the sizes were compared when this was made.
        unsafe { bpf_syscall::update(self.fd(), bytemuck::bytes_of(key), bytemuck::bytes_of(value), bpf_syscall::ANY) }
    }

    /// Sets the value at a key that has none.
    ///
    /// # Errors
    /// What the kernel says; `EEXIST` when there is one, of task storage `ENOENT` or `ESRCH` when the task is gone.
    pub(super) fn insert(&self, key: &K, value: &V) -> io::Result<()> {
        let (key, value) = (bytemuck::bytes_of(key), bytemuck::bytes_of(value));
        // SAFETY: the sizes were compared when this was made.
        unsafe { bpf_syscall::update(self.fd(), key, value, bpf_syscall::NOEXIST) }
    }

    /// All entries of a hash. Of one that programs change meanwhile, each number is from before or after.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` when this is no hash.
    pub(super) fn entries(&self) -> io::Result<Vec<(K, V)>> {
        self.must_be_hash()?;
        let mut step: usize = 1024;
        let mut entries = Vec::new();
        // Where the last step ended; the kernel's own number.
        let mut position: Option<u32> = None;
        loop {
            let mut keys = vec![K::zeroed(); step];
            let mut values = vec![V::zeroed(); step];
            let (to_keys, to_values) = (bytemuck::cast_slice_mut(&mut keys), bytemuck::cast_slice_mut(&mut values));
            // SAFETY: a hash, and room for `step` keys and values of the sizes that were compared.
            let batch = unsafe { bpf_syscall::lookup_batch(self.fd(), position, to_keys, to_values, step as u32) }?;
            // One bucket holds more than a whole step.
            if batch.is_short_of_room && batch.count == 0 {
                step *= 2;
                continue;
            }
            entries.extend(keys.into_iter().zip(values).take(batch.count as usize));
            if batch.is_last {
                return Ok(entries);
            }
            position = Some(batch.position);
        }
    }

    /// Deletes entries of a hash; one that is already gone is no error.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` when this is no hash.
    pub(super) fn delete(&self, mut keys: &[K]) -> io::Result<()> {
        self.must_be_hash()?;
        while !keys.is_empty() {
            // SAFETY: a hash, and so many keys of the size that was compared.
            match unsafe { bpf_syscall::delete_batch(self.fd(), bytemuck::cast_slice(keys), keys.len() as u32) }? {
                None => return Ok(()),
                // The key after the deleted ones was gone.
                Some(deleted) => keys = keys.get(deleted as usize + 1..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}

impl<V: Pod> Map<(), V> {
    /// Puts a value onto a stack.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn push(&self, value: &V) -> io::Result<()> {
        // SAFETY: the sizes were compared when this was made.
        unsafe { bpf_syscall::update(self.fd(), &[], bytemuck::bytes_of(value), bpf_syscall::ANY) }
    }
}

/// An array of a map that may be mapped, read through shared memory. Elements lie at multiples of eight bytes, as the sizes
/// of all types here are.
#[derive(Debug)]
pub(super) struct SharedArray<T> {
    start: NonNull<T>,
    length: usize,
}

impl<T: Pod> SharedArray<T> {
    /// Maps an array of `length` elements.
    ///
    /// # Errors
    /// What the kernel says; `InvalidData` when the array has fewer elements.
    pub(super) fn map(map: &Map<u32, T>, length: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8), "the kernel lays elements out at multiples of eight bytes") };
        if (bpf_syscall::map_facts(map.fd())?.max_entries as usize) < length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the array has fewer elements than are to be read"));
        }
        let bytes = NonZeroUsize::new(length * size_of::<T>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping of our own.
        let start = unsafe { mmap(None, bytes, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &map.fd, 0) }?;
        Ok(Self { start: start.cast(), length })
    }

    /// How many elements there are.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// An element as it is now. Programs may write it meanwhile: each number is from before or after.
    pub(super) fn value(&self, index: usize) -> Option<T> {
        if index >= self.length {
            return None;
        }
        let mut value = T::zeroed();
        for (number, bytes) in bytemuck::bytes_of_mut(&mut value).chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&self.word(index, number).to_ne_bytes());
        }
        Some(value)
    }

    /// The first word of an element, without reading the rest. `None` outside.
    pub(super) fn first_word(&self, index: usize) -> Option<u64> {
        if index >= self.length {
            return None;
        }
        Some(self.word(index, 0))
    }

    /// A word of an element, in one load. Both are inside.
    fn word(&self, index: usize, number: usize) -> u64 {
        debug_assert!(index < self.length && number < size_of::<T>() / 8, "outside of the mapping");
        // SAFETY: inside the mapping.
        let element = unsafe { self.start.add(index) }.cast::<AtomicU64>();
        // SAFETY: inside the element.
        let word = unsafe { element.add(number) };
        // SAFETY: mapped as long as this lives, and aligned, as elements lie at multiples of eight bytes; the kernel writes
        // meanwhile.
        unsafe { word.as_ref() }.load(Ordering::Relaxed)
    }

    /// All elements.
    pub(super) fn values(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.length).filter_map(|index| self.value(index))
    }
}

impl<T> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody borrows from it any more.
        let _ = unsafe { munmap(self.start.cast(), self.length * size_of::<T>()) };
    }
}

// SAFETY: the memory is only read.
unsafe impl<T: Send> Send for SharedArray<T> {}

#[cfg(test)]
mod tests {
    use aya::maps::MapData;
    use aya_obj::generated::bpf_map_type;
    use gpuos_test_macros::privileged;

    use super::*;

    /// A map with keys of four and values of sixteen bytes.
    fn created(kind: bpf_map_type) -> OwnedFd {
        let definition = aya_obj::maps::bpf_map_def {
            map_type: kind as u32,
            key_size: 4,
            value_size: 16,
            max_entries: 8,
            ..Default::default()
        };
        let map = aya_obj::Map::Legacy(aya_obj::maps::LegacyMap {
            section_index: 0,
            section_kind: aya_obj::EbpfSectionKind::Maps,
            symbol_index: None,
            def: definition,
            data: Vec::new(),
            inner_def: None,
        });
        MapData::create(map, "test", None).unwrap().fd().as_fd().try_clone_to_owned().unwrap()
    }

    fn refusal<K: Pod, V: Pod>(fd: OwnedFd) -> String {
        let error = Map::<K, V>::new(fd).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        error.to_string()
    }

    #[privileged]
    fn a_map_of_other_sizes_is_refused() {
        let hash = || created(bpf_map_type::BPF_MAP_TYPE_HASH);
        let sizes = "keys and values of the map have 4 and 16 bytes, not";
        // A smaller value is what the kernel would write past.
        assert_eq!(refusal::<u32, u64>(hash()), format!("{sizes} 4 and 8"));
        assert_eq!(refusal::<u32, [u64; 3]>(hash()), format!("{sizes} 4 and 24"));
        assert_eq!(refusal::<u64, [u64; 2]>(hash()), format!("{sizes} 8 and 16"));
        let map = Map::<u32, [u64; 2]>::new(hash()).unwrap();
        map.insert(&7, &[1, 2]).unwrap();
        assert_eq!(map.get(&7).unwrap(), [1, 2]);
        assert_eq!(map.entries().unwrap(), [(7, [1, 2])]);
        map.delete(&[6, 7, 8]).unwrap();
        assert_eq!(map.get(&7).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[privileged]
    fn a_map_with_values_for_each_cpu_is_refused() {
        for kind in [bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH, bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY] {
            assert_eq!(refusal::<u32, [u64; 2]>(created(kind)), "each CPU has a value of its own in the map");
        }
    }

    #[privileged]
    fn an_array_is_no_hash() {
        let array = Map::<u32, [u64; 2]>::new(created(bpf_map_type::BPF_MAP_TYPE_ARRAY)).unwrap();
        assert_eq!(array.entries().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(array.delete(&[1]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[privileged]
    fn an_array_that_is_too_short_is_not_mapped() {
        let array = Map::<u32, [u64; 2]>::new(created(bpf_map_type::BPF_MAP_TYPE_ARRAY)).unwrap();
        assert_eq!(SharedArray::map(&array, 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
