//! Turns the compiled object into maps and programs in the kernel.
//!
//! aya's own loader parses the kernel's BTF twice, 20 ms each, for one type id that we already
//! have from our own pass over it (`kernel_btf.rs`); so the object is parsed and relocated by
//! `aya-obj`, the maps are aya's, and the programs are loaded here. See
//! `docs/decisions/0004-own-program-loading.md`.

use std::{
    collections::{HashMap, HashSet},
    ffi::CString,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya::maps::MapData;
use aya_obj::{EbpfSectionKind, Object};
use bytemuck::Pod;
use gpuos_tracer_abi::maps as abi_maps;

use super::{
    api_probes,
    attach_point::AttachPoint,
    bpf_syscall,
    error::{self, LoadError},
    map::Map,
    perf_tracepoints,
    structure_cast::StructureCast,
};

/// Maps and programs, by name. Dropping it frees them; dropping a link detaches its program.
#[derive(Debug)]
pub(super) struct KernelObjects {
    maps: HashMap<String, MapData>,
    programs: HashMap<String, OwnedFd>,
    /// Of entries of functions, whose returns must stay until no entry is seen any more.
    entries: Vec<OwnedFd>,
    links: Vec<OwnedFd>,
}

/// A global variable and its bytes.
pub(super) type Global<'a> = (&'a str, &'a [u8]);

impl KernelObjects {
    /// Creates the maps, with `sizes` as their numbers of entries, and loads these programs. `cast`: what the kernel has
    /// for that. `plain_pointers`: for a kernel without task storage.
    pub(super) fn load(
        bytes: &[u8],
        globals: &[Global<'_>],
        sizes: &[(&str, u32)],
        wanted: &[(&'static str, AttachPoint)],
        cast: StructureCast,
        plain_pointers: bool,
    ) -> Result<Self, LoadError> {
        let broken = |error: &(dyn std::error::Error + 'static)| LoadError::from_step("reading the object", error);
        let mut object = Object::parse(bytes).map_err(|error| broken(&error))?;
        let globals = globals.iter().map(|&(name, bytes)| (name, (bytes, true))).collect();
        object.patch_map_data(globals).map_err(|error| broken(&error))?;
        let type_information = load_type_information(&mut object)?;
        let definitions: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
        let mut maps = HashMap::new();
        for (name, definition) in &definitions {
            if plain_pointers && name == abi_maps::THREADS {
                continue;
            }
            let size = sizes.iter().find(|(sized, _)| sized == name).map(|(_, size)| *size);
            maps.insert(
                name.clone(),
                create_map(name, definition, size, type_information.as_ref().map(|fd| fd.as_fd()))?,
            );
        }
        let text_sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let placed = definitions.iter().map(|(name, definition)| {
            // Code that is never reached refers to a map all the same: any will do.
            let map = maps.get(name).unwrap_or_else(|| &maps[abi_maps::THREADS_BY_TID]);
            (name.as_str(), map.fd().as_fd().as_raw_fd(), definition)
        });
        object.relocate_maps(placed, &text_sections).map_err(|error| broken(&error))?;
        object.relocate_calls(&text_sections).map_err(|error| broken(&error))?;
        object.functions.values_mut().for_each(|function| cast.put_into(&mut function.instructions));
        if plain_pointers {
            object.functions.values_mut().for_each(|function| without_exchange(&mut function.instructions));
        }
        let load = |(name, place): &(&'static str, AttachPoint)| {
            let program = object.programs.get(*name).ok_or_else(|| LoadError::no_program(name))?;
            let function = &object.functions[&program.function_key()];
            let request = bpf_syscall::ProgramRequest {
                name,
                instructions: &function.instructions,
                license: &program.license,
                type_information: type_information.as_ref().map(|fd| fd.as_fd()),
                functions: &function.func_info.func_info_bytes(),
                function_size: function.func_info_rec_size,
                place: place.clone(),
            };
            let loaded =
                bpf_syscall::load_program(&request).map_err(|refusal| LoadError::from_refusal(name, refusal))?;
            Ok(((*name).to_owned(), loaded))
        };
        // At once: the kernel verifies each on the thread that asks for it, which is most of the time that starting takes.
        let programs = std::thread::scope(|scope| {
            let load = &load;
            let begin = |one| std::thread::Builder::new().spawn_scoped(scope, move || load(one)).map_err(|_| one);
            let loads: Vec<_> = wanted.iter().map(begin).collect();
            let end = |begun: Result<std::thread::ScopedJoinHandle<'_, _>, _>| match begun {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // No more threads are allowed.
                Err(one) => load(one),
            };
            loads.into_iter().map(end).collect::<Result<_, LoadError>>()
        })?;
        Ok(Self { maps, programs, entries: Vec::new(), links: Vec::new() })
    }

    /// Attaches a program to its place.
    pub(super) fn attach(&mut self, program: &'static str, place: AttachPoint) -> Result<(), LoadError> {
        let program = self.program(program)?;
        let is_entry = matches!(
            place,
            AttachPoint::Function { at_return: false, .. } | AttachPoint::Library { at_return: false, .. }
        );
        let links = match place {
            AttachPoint::Typed(_) => bpf_syscall::open_raw_tracepoint(program, None).map(|link| vec![link]),
            AttachPoint::Raw(name) => bpf_syscall::open_raw_tracepoint(program, Some(name)).map(|link| vec![link]),
            AttachPoint::Function { name, at_return } => {
                perf_tracepoints::attach_to_function(program, name, at_return).map(|link| vec![link])
            }
            AttachPoint::Library { functions, at_return } => api_probes::attach(program, &functions, at_return),
            AttachPoint::Points(ids) => ids.into_iter().map(|id| perf_tracepoints::attach(program, id)).collect(),
        };
        let links = links.map_err(|error| LoadError::from_step("attaching a program", &error))?;
        if is_entry {
            self.entries.extend(links);
        } else {
            self.links.extend(links);
        }
        Ok(())
    }

    /// Attaches a program to the BTF tracepoint that it was loaded for, for as long as the result is kept.
    pub(super) fn open_tracepoint(&self, program: &'static str) -> Result<OwnedFd, LoadError> {
        bpf_syscall::open_raw_tracepoint(self.program(program)?, None)
            .map_err(|error| LoadError::from_step("attaching a program", &error))
    }

    /// A loaded program.
    pub(super) fn program(&self, name: &'static str) -> Result<BorrowedFd<'_>, LoadError> {
        self.programs.get(name).map(OwnedFd::as_fd).ok_or_else(|| LoadError::no_program(name))
    }

    /// A map of the object.
    fn map(&self, name: &'static str) -> Result<BorrowedFd<'_>, LoadError> {
        self.maps
            .get(name)
            .map(|map| map.fd().as_fd())
            .ok_or_else(|| LoadError::Other { what: "reading the object", reason: format!("it has no map `{name}`") })
    }

    /// A map of the object with these keys and values.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the object has no such map, or one of another layout.
    pub(super) fn typed_map<K: Pod, V: Pod>(&self, name: &'static str) -> Result<Map<K, V>, LoadError> {
        let step =
            |error: io::Error| LoadError::Other { what: "looking at a map", reason: format!("`{name}`: {error}") };
        Map::new(self.map(name)?.try_clone_to_owned().map_err(step)?).map_err(step)
    }

    /// The ring buffer of this name, which has neither keys nor values. It is given out once: two readers would free each
    /// other's records.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the object has none of this name and size.
    pub(super) fn take_ring(&mut self, name: &'static str, bytes: u32) -> Result<OwnedFd, LoadError> {
        let step = |error: io::Error| LoadError::from_step("mapping the ring", &error);
        let facts = bpf_syscall::map_facts(self.map(name)?).map_err(step)?;
        if !facts.is_ring || facts.max_entries != bytes {
            return Err(LoadError::Other {
                what: "mapping the ring",
                reason: format!("`{name}` is no ring of {bytes} bytes"),
            });
        }
        let fd = self.map(name)?.try_clone_to_owned().map_err(step)?;
        self.maps.remove(name);
        Ok(fd)
    }

    /// Every program with its name.
    pub(super) fn programs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.programs.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()))
    }

    /// Detaches every program, entries of functions before all, then the first attached first.
    pub(super) fn detach(&mut self) {
        self.entries.clear();
        self.links.clear();
    }
}

/// Linux before 5.12 refuses a program that has an atomic exchange anywhere, reached or not. It raises maxima in the
/// totals; a plain store in its place may miss one when two threads end in the same nanoseconds.
fn without_exchange(instructions: &mut [aya_obj::generated::bpf_insn]) {
    // BPF_STX | BPF_ATOMIC | BPF_DW with BPF_CMPXCHG; BPF_STX | BPF_MEM | BPF_DW.
    for instruction in instructions.iter_mut().filter(|i| i.code == 0xdb && i.imm == 0xf1) {
        instruction.code = 0x7b;
        instruction.imm = 0;
    }
}

/// Gives the object's own BTF to the kernel: task storage cannot be made without it.
fn load_type_information(object: &mut Object) -> Result<Option<OwnedFd>, LoadError> {
    let step = "loading the object's type information";
    let Some(features) = aya::features().btf() else { return Ok(None) };
    let Some(btf) = object.fixup_and_sanitize_btf(features).map_err(|error| LoadError::from_step(step, &error))? else {
        return Ok(None);
    };
    bpf_syscall::load_type_information(&btf.to_bytes()).map(Some).map_err(|error| LoadError::from_step(step, &error))
}

fn create_map(
    name: &str,
    definition: &aya_obj::Map,
    size: Option<u32>,
    btf: Option<BorrowedFd<'_>>,
) -> Result<MapData, LoadError> {
    let step = error::CREATING_MAPS;
    let mut definition = definition.clone();
    if let Some(size) = size {
        definition.set_max_entries(size);
    }
    let data = definition.data().to_vec();
    let is_constant = definition.section_kind() == EbpfSectionKind::Rodata;
    // The kernel allows 15 characters without dots.
    let shown: CString = CString::new(name.trim_start_matches('.')).unwrap_or_default();
    let map = MapData::create(definition, &shown.to_string_lossy(), btf)
        .map_err(|error| LoadError::from_step(step, &error))?;
    if is_constant {
        bpf_syscall::fill_and_freeze(map.fd().as_fd(), &data).map_err(|error| LoadError::from_step(step, &error))?;
    }
    Ok(map)
}
