//! Calls on NVIDIA's driver: escapes, and the control commands, classes and functions inside their arguments.

use gpuos_model::Role;
use gpuos_tracer_abi::ioctl::{DETAIL_NOT_SEEN, DETAIL_UNKNOWN, DETAIL_UNREADABLE, MADE_BY_HEAP};

use crate::{
    decoded::{Decoded, find, unknown},
    tables::{Command, StatusOffset, ioctls as tables},
    version::Version,
};

/// The detail of calls on an object of NVIDIA's driver that nobody saw made.
pub const CLASS_NOT_KNOWN: &str = "class not known";

/// Name of a status of NVIDIA's driver.
#[must_use]
pub fn status_name(code: u32) -> Option<&'static str> {
    tables::NVIDIA_STATUS.iter().find(|status| status.code == code).map(|status| status.name)
}

/// Where escapes hold their status.
pub(crate) fn escape_status() -> &'static [StatusOffset] {
    &tables::NVIDIA_ESCAPE_STATUS
}

/// Where commands of nvidia-uvm hold their status.
pub(crate) fn uvm_status() -> &'static [StatusOffset] {
    &tables::NVIDIA_UVM_STATUS
}

/// Of an object that was made before: the name and the role of its class, or of what made it.
pub(crate) fn object(detail: u32, version: Option<&Version>) -> (String, Option<&'static Command>) {
    if detail >> 16 != MADE_BY_HEAP >> 16 {
        return class(detail, version);
    }
    match find(&tables::NVIDIA_VIDHEAP, detail & !MADE_BY_HEAP, version) {
        Some(function) => (format!("object of {}", function.name), Some(function)),
        None => (format!("object of function {}", detail & !MADE_BY_HEAP), None),
    }
}

/// Of a class of objects: its name and role.
fn class(detail: u32, version: Option<&Version>) -> (String, Option<&'static Command>) {
    match detail {
        DETAIL_UNREADABLE => ("argument not readable".to_owned(), None),
        // Made before the trace, or by a call whose argument could not be read.
        DETAIL_UNKNOWN => (CLASS_NOT_KNOWN.to_owned(), None),
        number => match find(&tables::NVIDIA_CLASSES, number, version) {
            Some(class) => (class.name.to_owned(), Some(class)),
            None => (format!("class {number:#x}"), None),
        },
    }
}

/// Name of a control command, whatever the version; its parts where the tables have none.
#[must_use]
pub fn control_name(id: u32) -> String {
    control(id, None).detail
}

/// A control command: its name, or its parts.
fn control(id: u32, version: Option<&Version>) -> Decoded {
    if id == DETAIL_UNREADABLE {
        return Decoded { detail: "argument not readable".to_owned(), role: Some(Role::Unknown), ..Default::default() };
    }
    if let Some(control) = find(&tables::NVIDIA_CONTROLS, id, version) {
        return Decoded {
            detail: control.name.to_owned(),
            role: Some(control.role),
            known: true,
            purpose: control.purpose,
            ..Default::default()
        };
    }
    let (class, category, index) = (id >> 16, id >> 8 & 0x3f, id & 0xff);
    // Bit 15, and class 0x2081: commands that the driver passes to the firmware of the GPU unread.
    let opaque = id >> 15 & 1 == 1 || class == 0x2081;
    let what = if opaque { "opaque" } else { "unknown" };
    Decoded {
        detail: format!("{what} {id:#010x} (class {class:#06x}, category {category:#04x}, index {index:#04x})"),
        role: Some(Role::Unknown),
        known: opaque,
        ..Default::default()
    }
}

/// A call on `/dev/nvidiactl` or `/dev/nvidia<N>`.
pub(crate) fn escape(command: u32, detail: u32, version: Option<&Version>) -> Decoded {
    let number = command & 0xff;
    let Some(escape) = find(&tables::NVIDIA_ESCAPES, number, version) else { return unknown(command) };
    let mut decoded = Decoded {
        command: escape.name.to_owned(),
        role: Some(escape.role),
        known: true,
        purpose: escape.purpose,
        ..Default::default()
    };
    match number {
        // What an object or a control is for is in the argument.
        _ if detail == DETAIL_NOT_SEEN && matches!(number, 0x28..=0x2b) => decoded.role = Some(Role::Unknown),
        _ if detail == DETAIL_NOT_SEEN => {}
        _ if detail == DETAIL_UNREADABLE
            && !matches!(number, 0x27..=0x2b | 0x34 | 0x35 | 0x4e | 0x4f | 0x57 | 0x58) =>
        {
            decoded.detail = "argument not readable".to_owned();
            decoded.known = false;
        }
        0x2a => decoded = Decoded { command: decoded.command, ..control(detail, version) },
        // ALLOC_MEMORY, ALLOC_OBJECT, FREE, ALLOC, DUP_OBJECT, SHARE, MAP and UNMAP_MEMORY, MAP and UNMAP_MEMORY_DMA.
        0x27..=0x29 | 0x2b | 0x34 | 0x35 | 0x4e | 0x4f | 0x57 | 0x58 => {
            // A class that a program passes is its own choice.
            let makes = matches!(number, 0x27 | 0x28 | 0x2b);
            let (name, class) = if makes { class(detail, version) } else { object(detail, version) };
            decoded.detail = name;
            decoded.known = class.is_some();
            match class {
                // Making and ending an object is what the object is for; so is mapping a doorbell.
                Some(class) if matches!(number, 0x28 | 0x29 | 0x2b) || class.role == Role::Submission => {
                    decoded.role = Some(class.role);
                    decoded.purpose = class.purpose;
                }
                None if matches!(number, 0x28 | 0x29 | 0x2b) => decoded.role = Some(Role::Unknown),
                _ => {}
            }
        }
        0x4a => {
            if let Some(function) = find(&tables::NVIDIA_VIDHEAP, detail, version) {
                decoded.detail = function.name.to_owned();
                decoded.role = Some(function.role);
            } else {
                decoded.detail = format!("function {detail}");
                decoded.known = false;
            }
        }
        _ => {}
    }
    decoded
}
