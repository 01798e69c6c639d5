//! Commands of GPU drivers: tables by driver, and the name, detail and role of a call on a device.
//!
//! A command is looked up in the tables of the driver behind the device, never by its magic byte alone: several
//! drivers share numbers, and `nvidia.ko` and `amdkfd` do not look at the magic. Rules of decoding and the
//! source of every row stand beside the data, in `decode/data/ioctls`.

use gpuos_model::Role;
use gpuos_tracer_abi::ioctl::{DETAIL_NOT_SEEN, DETAIL_UNREADABLE, DeviceId};

pub use crate::tables::Command;
use crate::{
    decoded::{Decoded, find, plain, unknown},
    devices::{DeviceKind, Devices},
    kfd, nvidia,
    tables::ioctls as tables,
};

/// A table as it is listed.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Word by which it is chosen.
    pub name: &'static str,
    /// What its numbers are.
    pub about: &'static str,
    /// Its commands, by number.
    pub commands: &'static [Command],
}

/// Every table.
pub static TABLES: [Table; 18] = [
    Table { name: "nvidia", about: "escape, the low byte of the command", commands: &tables::NVIDIA_ESCAPES },
    Table { name: "nvidia-control", about: "control command of NV_ESC_RM_CONTROL", commands: &tables::NVIDIA_CONTROLS },
    Table { name: "nvidia-class", about: "class of NV_ESC_RM_ALLOC", commands: &tables::NVIDIA_CLASSES },
    Table { name: "nvidia-uvm", about: "command, a plain number", commands: &tables::NVIDIA_UVM },
    Table {
        name: "nvidia-vidheap",
        about: "function of NV_ESC_RM_VID_HEAP_CONTROL",
        commands: &tables::NVIDIA_VIDHEAP,
    },
    Table { name: "nvidia-modeset", about: "command in its envelope", commands: &tables::NVIDIA_MODESET },
    Table { name: "nvidia-drm", about: "number, the low byte of the command", commands: &tables::NVIDIA_DRM },
    Table { name: "kfd", about: "number, the low byte of the command", commands: &tables::KFD },
    Table { name: "drm", about: "number, the low byte of the command", commands: &tables::DRM },
    Table { name: "amdgpu", about: "number, the low byte of the command", commands: &tables::AMDGPU },
    Table { name: "i915", about: "number, the low byte of the command", commands: &tables::I915 },
    Table { name: "xe", about: "number, the low byte of the command", commands: &tables::XE },
    Table { name: "nouveau", about: "number, the low byte of the command", commands: &tables::NOUVEAU },
    Table { name: "virtio_gpu", about: "number, the low byte of the command", commands: &tables::VIRTIO_GPU },
    Table { name: "other", about: "number, the low byte of the command", commands: &tables::OTHER_DRM },
    Table { name: "dma-buf", about: "number, the low byte of the command", commands: &tables::DMA_BUF },
    Table { name: "sync_file", about: "number, the low byte of the command", commands: &tables::SYNC_FILE },
    Table { name: "gdrdrv", about: "number, the low byte of the command", commands: &tables::GDRDRV },
];

/// First number of the commands that each DRM driver has of its own (`DRM_COMMAND_BASE` to `DRM_COMMAND_END`).
const DRM_OWN: std::ops::Range<u32> = 0x40..0xa0;

/// Commands that the kernel answers itself on every file, before a driver sees them (`do_vfs_ioctl` of `fs/ioctl.c`).
pub(crate) const OF_THE_KERNEL: [(u32, &str); 11] = [
    (0x5451, "FIOCLEX"),
    (0x5450, "FIONCLEX"),
    (0x5421, "FIONBIO"),
    (0x5452, "FIOASYNC"),
    (0x5460, "FIOQSIZE"),
    (0xc004_5877, "FIFREEZE"),
    (0xc004_5878, "FITHAW"),
    (0xc020_660b, "FS_IOC_FIEMAP"),
    (0x2, "FIGETBSZ"),
    (0x4004_9409, "FICLONE"),
    (0x4020_940d, "FICLONERANGE"),
];

/// `GDRDRV_IOCTL` of NVIDIA's gdrdrv.h.
const GDRDRV_TYPE: u32 = 0xda;

/// By the low byte; where several share it, by the whole number.
fn by_number(table: &'static [Command], driver: &str, command: u32) -> Option<&'static Command> {
    let of_driver =
        || table.iter().filter(|row| row.number == command & 0xff && (row.driver == driver || row.driver.is_empty()));
    of_driver().find(|row| row.full == command).or_else(|| of_driver().next())
}

/// By all of it: these drivers look at nothing less.
fn by_whole_number(table: &'static [Command], driver: &str, command: u32) -> Option<&'static Command> {
    table.iter().find(|row| row.full == command && row.driver == driver)
}

/// Of what stands in the envelope of modeset's calls, where no table has it.
fn modeset_detail(detail: u32) -> String {
    match detail {
        DETAIL_UNREADABLE => "argument not readable".to_owned(),
        DETAIL_NOT_SEEN => String::new(),
        command => format!("command {command}"),
    }
}

fn drm(driver: &str, command: u32) -> Decoded {
    if command >> 8 & 0xff != 0x64 {
        return unknown(command);
    }
    // Names of bus drivers, which sysfs has, where they differ from those of the DRM drivers in the tables.
    let driver = match driver {
        "intel_vpu" => "ivpu",
        "virtio_gpu" | "virtio-gpu" => "virtgpu",
        driver => driver.strip_suffix("-drm").unwrap_or(driver),
    };
    let number = command & 0xff;
    if !DRM_OWN.contains(&number) {
        return plain(by_number(&tables::DRM, "drm", command), command);
    }
    let table: &'static [Command] = match driver {
        "amdgpu" => &tables::AMDGPU,
        "i915" => &tables::I915,
        "xe" => &tables::XE,
        "nouveau" => &tables::NOUVEAU,
        "virtgpu" => &tables::VIRTIO_GPU,
        "nvidia" => &tables::NVIDIA_DRM,
        _ => &tables::OTHER_DRM,
    };
    plain(by_number(table, driver, command), command)
}

/// Decodes an `ioctl` on a device. `None` where the device is no GPU's.
#[must_use]
pub fn decode(devices: &Devices, device: DeviceId, command: u32, detail: u32) -> Option<Decoded> {
    let version = devices.nvidia_version.as_ref();
    let kind = devices.kind(device);
    if let Some((_, name)) = OF_THE_KERNEL.iter().find(|(number, _)| *number == command)
        && !matches!(kind, DeviceKind::NotGpu)
    {
        return Some(Decoded {
            command: (*name).to_owned(),
            role: Some(Role::Bookkeeping),
            known: true,
            purpose: "answered by the kernel before the driver",
            on_gpu: true,
            ..Default::default()
        });
    }
    let decoded = match kind {
        DeviceKind::NotGpu => return None,
        DeviceKind::Nvidia => nvidia::escape(command, detail, version),
        DeviceKind::NvidiaUvm => plain(find(&tables::NVIDIA_UVM, command, version), command),
        DeviceKind::NvidiaModeset if command == 0xc010_6d00 => {
            let inner = Some(detail).filter(|detail| *detail < DETAIL_NOT_SEEN);
            let inner = inner.and_then(|detail| find(&tables::NVIDIA_MODESET, detail, version));
            Decoded {
                command: "NVKMS_IOCTL".to_owned(),
                detail: inner.map_or_else(|| modeset_detail(detail), |inner| inner.name.to_owned()),
                role: inner.map_or(Some(Role::Unknown), |inner| Some(inner.role)),
                known: inner.is_some(),
                purpose: inner.map_or("", |inner| inner.purpose),
                on_gpu: true,
            }
        }
        DeviceKind::Kfd => {
            let mut decoded = plain(by_number(&tables::KFD, "", command), command);
            decoded.detail = kfd::detail(command, detail).into_owned();
            decoded.known &= detail != DETAIL_UNREADABLE;
            decoded
        }
        DeviceKind::Drm(driver) => drm(driver, command),
        DeviceKind::DmaBuf => plain(by_whole_number(&tables::DMA_BUF, "dma-buf (anon fd)", command), command),
        DeviceKind::DmaHeap => plain(by_whole_number(&tables::DMA_BUF, "/dev/dma_heap/*", command), command),
        DeviceKind::Udmabuf => plain(by_whole_number(&tables::DMA_BUF, "/dev/udmabuf", command), command),
        DeviceKind::SyncFile => plain(by_whole_number(&tables::SYNC_FILE, "sync_file (anon fd)", command), command),
        // Its table has no whole numbers; the driver's are of type 0xda.
        DeviceKind::Gdrdrv if command >> 8 & 0xff == GDRDRV_TYPE => {
            plain(by_number(&tables::GDRDRV, "", command), command)
        }
        DeviceKind::Gdrdrv => unknown(command),
        DeviceKind::NvidiaModeset | DeviceKind::OtherGpu => unknown(command),
    };
    Some(Decoded { on_gpu: true, ..decoded })
}

/// Decodes an `mmap` of a GPU device.
#[must_use]
pub fn decode_mapping(devices: &Devices, device: DeviceId, detail: u32) -> Option<Decoded> {
    let kind = devices.kind(device);
    let (detail, role) = if kind == DeviceKind::NotGpu {
        return None;
    } else if kind == DeviceKind::Kfd {
        // KFD_MMAP_TYPE of the driver's kfd_priv.h, + 1.
        let (detail, role) = match detail {
            4 => ("doorbell", Role::Submission),
            3 => ("events", Role::Synchronization),
            2 => ("reserved memory", Role::Memory),
            _ => ("registers", Role::Memory),
        };
        (detail.to_owned(), role)
    } else if kind == DeviceKind::Nvidia && detail != 0 {
        let (name, class) = nvidia::object(detail, devices.nvidia_version.as_ref());
        (name, class.map(|class| class.role).filter(|role| *role == Role::Submission).unwrap_or(Role::Memory))
    } else {
        (String::new(), Role::Memory)
    };
    Some(Decoded { detail, role: Some(role), known: true, on_gpu: true, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;
    use gpuos_tracer_abi::ioctl::{DMA_BUF, MADE_BY_HEAP, SOCKET};

    fn devices(version: &str) -> Devices {
        Devices::for_tests(
            "Character devices:\n  1 mem\n195 nvidia\n226 drm\n236 kfd\n511 nvidia-uvm\n\nBlock devices:\n259 blkext\n",
            &[(128, "amdgpu"), (129, "i915"), (130, "vgem")],
            Version::parse(version),
        )
    }

    const CTL: DeviceId = DeviceId::new(195, 255);
    const UVM: DeviceId = DeviceId::new(511, 0);
    const KFD: DeviceId = DeviceId::new(236, 0);

    #[test]
    fn tables_are_sorted_by_number() {
        for table in &TABLES {
            assert!(table.commands.windows(2).all(|pair| pair[0].number <= pair[1].number), "{}", table.name);
            assert!(table.commands.iter().all(|command| !command.name.is_empty()), "{}", table.name);
        }
    }

    #[test]
    fn nvidia_commands_have_the_name_of_their_version() {
        let new = devices("595.45.04");
        let name = |devices: &Devices, command, detail| {
            let decoded = decode(devices, CTL, command, detail).unwrap();
            (decoded.command, decoded.detail, decoded.role.unwrap())
        };
        let alloc = name(&new, 0xc030_462b, 0x80);
        assert_eq!(alloc, ("NV_ESC_RM_ALLOC".to_owned(), "NV01_DEVICE_0".to_owned(), Role::Bookkeeping));
        // The number 0x0502 was given to another command in 575.
        let event = |version| name(&devices(version), 0xc020_462a, 0x502).1;
        assert_eq!(event("570.211.01"), "NV0000_CTRL_CMD_GET_SYSTEM_EVENT_STATUS");
        assert_eq!(event("580.159.04"), "NV0000_CTRL_CMD_GET_SYSTEM_EVENT_DATA");
        let opaque = decode(&new, CTL, 0xc020_462a, 0x2080_8301).unwrap();
        assert!(opaque.detail.starts_with("opaque 0x20808301"), "{}", opaque.detail);
        assert!(opaque.known && opaque.role == Some(Role::Unknown));
        let unknown = decode(&new, CTL, 0xc020_462a, 0x1234_0101).unwrap();
        assert!(!unknown.known && unknown.detail.starts_with("unknown 0x12340101"), "{}", unknown.detail);
        assert_eq!(name(&new, 0xc010_4629, 0xc56f).2, Role::Submission, "freeing a channel");
        let made = name(&new, 0xc030_462b, MADE_BY_HEAP | 2);
        assert_eq!((made.1.as_str(), made.2), ("class 0x40000002", Role::Unknown), "a program may pass what it likes");
        assert_eq!(name(&new, 0xc0b8_464a, DETAIL_UNREADABLE).1, "argument not readable");
        assert_eq!(
            name(&new, 0xc020_462a, DETAIL_NOT_SEEN),
            ("NV_ESC_RM_CONTROL".to_owned(), String::new(), Role::Unknown)
        );
        let heap_memory = name(&new, 0xc010_4629, MADE_BY_HEAP | 2);
        assert_eq!(heap_memory.1, "object of NVOS32_FUNCTION_ALLOC_SIZE");
        assert_eq!(heap_memory.2, Role::Memory);
    }

    #[test]
    fn the_device_decides_and_not_the_magic() {
        let devices = devices("580.159.04");
        let uvm = decode(&devices, UVM, 0x3000_0001, 0).unwrap();
        assert_eq!(uvm.command, "UVM_INITIALIZE");
        let kfd = |command| decode(&devices, KFD, command, 0).unwrap().command;
        assert_eq!(kfd(0xc018_4b0c), "AMDKFD_IOC_WAIT_EVENTS");
        // The kernel answers these itself, though the low bytes are numbers of the driver.
        assert_eq!((kfd(0x5421), kfd(2)), ("FIONBIO".to_owned(), "FIGETBSZ".to_owned()));
        let shared = |command| decode(&devices, DMA_BUF, command, 0).unwrap();
        assert_eq!(shared(0x4008_6201).command, "DMA_BUF_SET_NAME");
        assert!(!shared(0x5401).known, "TCGETS is none of a dma-buf's: {:?}", shared(0x5401));
        let gdrdrv = Devices::for_tests("Character devices:\n240 gdrdrv\n", &[], None);
        let gdrdrv = |command| decode(&gdrdrv, DeviceId::new(240, 0), command, 0).unwrap();
        assert_eq!(gdrdrv(0xda01).command, "GDRDRV_IOC_PIN_BUFFER");
        assert!(!gdrdrv(0x5401).known, "{:?}", gdrdrv(0x5401));
        // kfd_ioctl answers a wrong magic, and SVM adds the size of its attributes.
        assert_eq!(kfd(0xc008_5a01), "AMDKFD_IOC_GET_VERSION");
        assert_eq!(kfd(0xc020_4b20), "AMDKFD_IOC_SVM");
        let drm = |minor: u32, command| decode(&devices, DeviceId::new(226, minor), command, 0).unwrap().command;
        assert_eq!(drm(128, 0xc020_6440), "DRM_IOCTL_AMDGPU_GEM_CREATE");
        assert_eq!(drm(129, 0xc010_6464), "DRM_IOCTL_I915_GEM_MMAP_GTT");
        assert_eq!(drm(129, 0xc020_6464), "DRM_IOCTL_I915_GEM_MMAP_OFFSET");
        assert_eq!(drm(129, 0xc040_6400), "DRM_IOCTL_VERSION");
        assert_eq!(drm(130, 0xc010_6441), "DRM_IOCTL_VGEM_FENCE_ATTACH");
        assert_eq!(decode(&devices, DMA_BUF, 0x4008_6200, 0).unwrap().command, "DMA_BUF_IOCTL_SYNC");
        assert_eq!(decode(&devices, SOCKET, 0x4008_6200, 0), None);
        assert_eq!(
            decode(&devices, CTL, 0xc004_4600, 0).unwrap().command,
            "_IOC(_IOC_READ|_IOC_WRITE, 0x46, 0x0, 0x4)"
        );
    }

    #[test]
    fn mappings_tell_doorbells_from_memory() {
        let devices = devices("580.159.04");
        let role = |device, detail| decode_mapping(&devices, device, detail).unwrap().role.unwrap();
        assert_eq!(role(KFD, 4), Role::Submission);
        assert_eq!(role(KFD, 3), Role::Synchronization);
        assert_eq!(role(CTL, 0xc361), Role::Submission);
        assert_eq!(role(CTL, 0x3e), Role::Memory);
        assert_eq!(role(UVM, 0), Role::Memory);
    }
}
