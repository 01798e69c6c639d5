//! What tells calls of one command of AMD's compute driver apart: flags, types and operations.
//!
//! Numbers and offsets are those of `linux/kfd_ioctl.h` (Linux 6.12).

use std::borrow::Cow;

use gpuos_tracer_abi::ioctl::{DETAIL_NOT_SEEN, DETAIL_UNREADABLE};

/// `AMDKFD_IOC_CREATE_QUEUE`.
pub(crate) const CREATE_QUEUE: u32 = 0x02;
/// `AMDKFD_IOC_DESTROY_QUEUE`.
pub(crate) const DESTROY_QUEUE: u32 = 0x03;
/// `AMDKFD_IOC_WAIT_EVENTS`.
pub(crate) const WAIT_EVENTS: u32 = 0x0c;
/// Where its result stands: 0 done, 1 timeout, 2 failed.
pub(crate) const WAIT_RESULT: u32 = 20;

/// Name of that result.
pub(crate) fn wait_result(result: u32) -> Option<&'static str> {
    // KFD_IOC_WAIT_RESULT_TIMEOUT and _FAIL.
    match result {
        1 => Some("timeout"),
        2 => Some("failed"),
        _ => None,
    }
}

/// A field of a command's argument.
pub(crate) struct Field {
    /// Number of the command.
    pub(crate) number: u32,
    /// Byte offset of the word.
    pub(crate) at: u32,
    /// How to read it.
    values: Values,
}

enum Values {
    /// A number by which one is chosen.
    Choice(&'static [&'static str]),
    /// 0, and everything else.
    Truth([&'static str; 2]),
    /// Bits.
    Flags(&'static [(u32, &'static str)]),
}

/// ROCr waits for its application with `wait_for_all`, and its own event thread without it, as does `hsa_amd_signal_wait_any`:
/// seen with ROCr 5.2.3, 6.1.2 and 6.4.3. A thread cannot be told by what else it does: that of 6.4.3 sets events, too.
const WAITS: [&str; 2] = ["any event (a runtime's event thread)", "all events"];

pub(crate) const FIELDS: [Field; 5] = [
    // AMDKFD_IOC_CREATE_QUEUE, queue_type.
    Field {
        number: 0x02,
        at: 40,
        values: Values::Choice(&["compute", "sdma", "compute aql", "sdma xgmi", "sdma by engine"]),
    },
    // AMDKFD_IOC_CREATE_EVENT, event_type.
    Field {
        number: 0x08,
        at: 12,
        values: Values::Choice(&[
            "signal",
            "node change",
            "device state change",
            "hardware exception",
            "system",
            "debug",
            "profile",
            "queue",
            "memory",
        ]),
    },
    // wait_for_all.
    Field { number: WAIT_EVENTS, at: 12, values: Values::Truth(WAITS) },
    // AMDKFD_IOC_ALLOC_MEMORY_OF_GPU, flags.
    Field {
        number: 0x16,
        at: 36,
        values: Values::Flags(&[
            (1, "VRAM"),
            (1 << 1, "GTT"),
            (1 << 2, "USERPTR"),
            (1 << 3, "DOORBELL"),
            (1 << 4, "MMIO_REMAP"),
            (1 << 23, "CONTIGUOUS"),
            (1 << 24, "EXT_COHERENT"),
            (1 << 25, "UNCACHED"),
            (1 << 26, "COHERENT"),
            (1 << 27, "AQL_QUEUE_MEM"),
            (1 << 28, "NO_SUBSTITUTE"),
            (1 << 29, "PUBLIC"),
            (1 << 30, "EXECUTABLE"),
            (1 << 31, "WRITABLE"),
        ]),
    },
    // AMDKFD_IOC_SVM, op.
    Field { number: 0x20, at: 16, values: Values::Choice(&["set", "get"]) },
];

/// What a detail says; empty for commands that have none.
pub(crate) fn detail(command: u32, detail: u32) -> Cow<'static, str> {
    let Some(field) = FIELDS.iter().find(|field| field.number == command & 0xff) else { return "".into() };
    if detail == DETAIL_NOT_SEEN {
        return "".into();
    }
    if detail == DETAIL_UNREADABLE {
        return "argument not readable".into();
    }
    match field.values {
        Values::Choice(words) => {
            words.get(detail as usize).map_or_else(|| detail.to_string().into(), |word| (*word).into())
        }
        Values::Truth([no, yes]) => if detail == 0 { no } else { yes }.into(),
        Values::Flags(flags) => {
            let mut words: Vec<String> =
                flags.iter().filter(|(bit, _)| detail & bit != 0).map(|(_, word)| (*word).to_owned()).collect();
            let unknown = flags.iter().fold(detail, |rest, (bit, _)| rest & !bit);
            if unknown != 0 || words.is_empty() {
                words.push(format!("{unknown:#x}"));
            }
            words.join("|").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_choices_have_names() {
        assert_eq!(detail(0xc028_4b16, 0x8000_0001), "VRAM|WRITABLE");
        assert_eq!(detail(0xc028_4b16, 1 << 20 | 2), "GTT|0x100000");
        assert_eq!(detail(0xc028_4b16, 0), "0x0");
        assert_eq!(detail(0xc028_4b16, DETAIL_UNREADABLE), "argument not readable");
        assert_eq!((detail(0x0c, 1), detail(0x0c, 7)), ("all events".into(), "all events".into()));
        assert_eq!(detail(0x20, 7), "7", "no operation of SVM");
        assert_eq!(detail(0x01, 5), "");
    }
}
