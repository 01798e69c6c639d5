//! A counted call by all its names: what the columns of a file and the lines of a table say of it.

use gpuos_model::{Category, Role};
use gpuos_tracer_abi::{
    ioctl::{DeviceId, OTHER_COMMANDS},
    syscalls::{ABI_NATIVE, RowKey},
};

use crate::{
    decoded::{Decoded, parts},
    devices::{DeviceKind, Devices},
    ioctls, kfd, nvidia,
    roles::Roles,
    syscalls,
};

/// Name of a call as shown: 32-bit calls are never given a 64-bit name.
fn name_of(key: &RowKey) -> String {
    match syscalls::by_number(key.number) {
        _ if key.abi != ABI_NATIVE => format!("compat_{}", key.number),
        Some(call) => call.name.to_owned(),
        None => format!("syscall_{}", key.number),
    }
}

/// What the tables know of a call on a device.
fn decode(key: &RowKey, devices: &Devices) -> Decoded {
    if key.device == DeviceId::NONE || key.abi != ABI_NATIVE {
        return Decoded::default();
    }
    match syscalls::by_number(key.number).map(|call| call.name) {
        Some("ioctl") if (key.command, key.detail) == (OTHER_COMMANDS, OTHER_COMMANDS) => Decoded {
            command: "other commands".to_owned(),
            on_gpu: devices.kind(key.device) != DeviceKind::NotGpu,
            ..Decoded::default()
        },
        Some("ioctl") => ioctls::decode(devices, key.device, key.command, key.detail)
            .unwrap_or_else(|| Decoded { command: parts(key.command), ..Decoded::default() }),
        Some("mmap") => ioctls::decode_mapping(devices, key.device, key.detail).unwrap_or_default(),
        // The kernel side names the device of other calls only where it is a GPU's.
        _ => Decoded { known: true, on_gpu: true, ..Decoded::default() },
    }
}

/// A call as it is named in one column, and its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The system call, or the device with what was asked of it.
    pub name: String,
    /// Its role.
    pub role: Role,
}

/// A call by all its names, as the columns of files have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The system call.
    pub syscall: String,
    /// What its fd is; empty where nobody looked.
    pub device: String,
    /// The driver's command.
    pub command: String,
    /// What tells calls of one command apart.
    pub detail: String,
    /// Of a GPU driver's call: `yes` where a table has it, else `no`.
    pub decoded: &'static str,
    /// Kind of kernel service.
    pub category: String,
    /// Role.
    pub role: Role,
}

/// Names a row's call in every column.
#[must_use]
pub fn names_of(key: &RowKey, roles: &Roles, devices: &Devices) -> Names {
    let decoded = decode(key, devices);
    Names {
        syscall: name_of(key),
        device: if key.device == DeviceId::NONE { String::new() } else { devices.name(key.device) },
        role: role_of(key, &decoded, roles),
        decoded: match (decoded.on_gpu, decoded.known) {
            (false, _) => "",
            (true, true) => "yes",
            (true, false) => "no",
        },
        category: if key.abi == ABI_NATIVE { roles.category(key.number) } else { Category::Unknown.name() }.to_owned(),
        command: decoded.command,
        detail: decoded.detail,
    }
}

/// Names a row's call.
#[must_use]
pub fn call_of(key: &RowKey, roles: &Roles, devices: &Devices) -> Call {
    let decoded = decode(key, devices);
    let role = role_of(key, &decoded, roles);
    let mut name = name_of(key);
    if decoded.on_gpu {
        let what = if decoded.command.is_empty() { &name } else { &decoded.command };
        name = format!("{} {what} {}", devices.name(key.device), decoded.detail).trim_end().to_owned();
    }
    Call { name, role }
}

/// Role of a row: what the user said of the call, else that of the driver's command, else that of the call.
fn role_of(key: &RowKey, decoded: &Decoded, roles: &Roles) -> Role {
    match decoded.role {
        _ if key.abi != ABI_NATIVE => Role::Unknown,
        Some(role) if !roles.changes(key.number) => role,
        _ => roles.role(key.number),
    }
}

/// Name of a driver's status; empty for 0.
#[must_use]
pub fn status_name(device: DeviceId, status: u32, devices: &Devices) -> String {
    if status == 0 {
        return String::new();
    }
    let kind = devices.kind(device);
    let name = if kind == DeviceKind::Kfd {
        kfd::wait_result(status)
    } else if matches!(kind, DeviceKind::Nvidia | DeviceKind::NvidiaUvm) {
        nvidia::status_name(status)
    } else {
        None
    };
    name.map_or_else(|| format!("status {status:#x}"), str::to_owned)
}
