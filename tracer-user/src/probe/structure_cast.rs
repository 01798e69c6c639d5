//! Whether programs may take an address for a pointer to a structure of the kernel, and their instructions for that.
//!
//! The verifier then lets them read its fields by plain loads, where a helper would copy each (Linux 6.2,
//! `docs/decisions/0008-devices-and-their-commands.md`).

use aya_obj::generated::bpf_insn;
use gpuos_tracer_abi::settings::CAST;

use super::{
    attach_point::AttachPoint,
    bpf_syscall::{self, ProgramRequest},
    kernel_btf::KernelBtf,
};

/// `BPF_JMP | BPF_CALL` of `linux/bpf_common.h`.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL` of `linux/bpf.h`: the number is the type id of a function of the kernel.
const KERNEL_FUNCTION: u8 = 2;
/// `BPF_ALU64 | BPF_MOV | BPF_K` and `… | BPF_X`.
const SET: u8 = 0xb7;
const COPY: u8 = 0xbf;
/// `BPF_JMP | BPF_EXIT`.
const EXIT: u8 = 0x95;

/// Type ids on the running kernel; all 0 where it has no such function or lets nobody call it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StructureCast {
    /// The function.
    function: u32,
    /// `struct file`.
    pub(super) file: u32,
    /// `struct inode`.
    pub(super) inode: u32,
    /// `struct timespec64`, for its first field: a number of 64 bits, which the verifier takes for no pointer.
    pub(super) word: u32,
}

impl StructureCast {
    /// On this kernel, tried out with a small program at a typed tracepoint: kernels without a compiler for BPF have the
    /// function and cannot call it.
    pub(super) fn of(btf: &KernelBtf, tracepoint: u32) -> Self {
        let find = || {
            let id = |name| btf.structure(name).ok().map(|structure| structure.id());
            let cast = Self {
                function: btf.id_of_function("bpf_rdonly_cast").ok()?,
                file: id("file")?,
                inode: id("inode")?,
                word: id("timespec64")?,
            };
            let mut program = [
                instruction(SET, 1, 0, 0),
                instruction(SET, 2, 0, cast.word),
                instruction(CALL, 0, 0, CAST),
                instruction(SET, 0, 0, 0),
                instruction(EXIT, 0, 0, 0),
            ];
            cast.put_into(&mut program);
            let request = ProgramRequest {
                name: "cast",
                instructions: &program,
                license: c"GPL",
                type_information: None,
                functions: &[],
                function_size: 0,
                place: AttachPoint::Typed(tracepoint),
            };
            bpf_syscall::load_program(&request).ok().map(|_| cast)
        };
        find().unwrap_or_default()
    }

    /// Puts the function in its places in a program, or where there is none what has the same effect in code that is
    /// never reached.
    pub(super) fn put_into(self, program: &mut [bpf_insn]) {
        for place in program.iter_mut().filter(|i| i.code == CALL && i.src_reg() == 0 && i.imm == CAST as i32) {
            *place = match self.function {
                0 => instruction(COPY, 0, 1, 0),
                function => instruction(CALL, 0, KERNEL_FUNCTION, function),
            };
        }
    }
}

fn instruction(code: u8, to: u8, from: u8, number: u32) -> bpf_insn {
    // SAFETY: plain data, for which zero is valid.
    let mut instruction: bpf_insn = unsafe { std::mem::zeroed() };
    instruction.code = code;
    instruction.set_dst_reg(to);
    instruction.set_src_reg(from);
    instruction.imm = number as i32;
    instruction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_places_that_stand_for_it_are_changed() {
        let fields = |i: &bpf_insn| (i.code, i.dst_reg(), i.src_reg(), i.imm);
        let program = [instruction(CALL, 0, 0, 14), instruction(CALL, 0, 0, CAST), instruction(CALL, 0, 1, CAST)];
        for (function, expected) in [(77, (CALL, 0, 2, 77)), (0, (COPY, 0, 1, 0))] {
            let mut changed = program;
            StructureCast { function, ..StructureCast::default() }.put_into(&mut changed);
            assert_eq!(fields(&changed[0]), fields(&program[0]));
            assert_eq!(fields(&changed[1]), expected);
            assert_eq!(fields(&changed[2]), fields(&program[2]));
        }
    }
}
