//! Fields of the arguments of GPU drivers' commands, by their measured layouts.

use gpuos_tracer_abi::ioctl::DeviceId;

use crate::{
    devices::{DeviceKind, Devices},
    driver_rules::NEWEST,
    tables::{Field, fields::FIELDS},
};

/// The fields of a call's argument as `name=0xVALUE`, with spaces between: those of which all bytes are there. Empty
/// where no layout is known.
#[must_use]
pub fn decode(devices: &Devices, device: DeviceId, command: u32, argument: &[u8]) -> String {
    let driver = match devices.kind(device) {
        DeviceKind::Nvidia => "nvidia",
        DeviceKind::Kfd => "kfd",
        // Commands of a driver begin at 0x40; the others are those of every driver.
        DeviceKind::Drm(_) if !(0x40..0xa0).contains(&(command & 0xff)) => "drm",
        DeviceKind::Drm(driver) => driver,
        DeviceKind::NotGpu
        | DeviceKind::NvidiaUvm
        | DeviceKind::NvidiaModeset
        | DeviceKind::DmaBuf
        | DeviceKind::DmaHeap
        | DeviceKind::Udmabuf
        | DeviceKind::SyncFile
        | DeviceKind::Gdrdrv
        | DeviceKind::OtherGpu => return String::new(),
    };
    let (number, size) = (command & 0xff, command >> 16 & 0x3fff);
    let version = devices.nvidia_version.as_ref();
    let holds = |field: &&Field| {
        let newest = field.last == NEWEST;
        field.driver == driver
            && field.number == number
            && field.size == size
            && version.is_none_or(|version| version.in_branch(field.first, if newest { "" } else { field.last }))
    };
    // What functions of the video heap have of their own lies in the same bytes.
    let function =
        argument.get(8..12).map(|word| word.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte)));
    let is_of_function = |field: &&Field| match field.name.strip_prefix("data.").and_then(|name| name.split_once('.')) {
        Some(("AllocSize", _)) => function == Some(2),
        Some(("Free", _)) => function == Some(3),
        Some(("AllocSizeRange", _)) => function == Some(14),
        Some(("AllocOsDesc", _)) => function == Some(27),
        _ => true,
    };
    let value = |field: &Field| {
        let bytes = argument.get(field.offset..field.offset + field.width)?;
        let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        Some(format!("{}={value:#x}", field.name))
    };
    FIELDS.iter().filter(holds).filter(is_of_function).filter_map(value).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    #[test]
    fn an_argument_is_taken_apart_as_far_as_it_was_read() {
        let devices = Devices::for_tests("Character devices:\n195 nvidia\n", &[], Version::parse("580.159.04"));
        let mut argument = [0_u8; 32];
        argument[8..12].copy_from_slice(&0x2080_1802_u32.to_le_bytes());
        let text = decode(&devices, DeviceId::new(195, 255), 0xc020_462a, &argument);
        assert!(text.starts_with("hClient=0x0 hObject=0x0 cmd=0x20801802 "), "{text}");
        assert!(text.contains("status="), "{text}");
        let mut heap = [0_u8; 184];
        heap[8..12].copy_from_slice(&3_u32.to_le_bytes());
        let freed = decode(&devices, DeviceId::new(195, 255), 0xc0b8_464a, &heap);
        assert!(freed.contains("data.Free.hMemory=") && !freed.contains("data.Alloc"), "{freed}");
        let shorter = decode(&devices, DeviceId::new(195, 255), 0xc020_462a, &argument[..12]);
        assert_eq!(shorter, "hClient=0x0 hObject=0x0 cmd=0x20801802");
        assert_eq!(decode(&devices, DeviceId::new(1, 3), 0xc020_462a, &argument), "");
    }
}
