//! Numbers of a call on a device, which a traced program chooses, and the names that tables give them.

#![no_main]

use std::sync::LazyLock;

use gpuos_decode::{call::status_name, devices::Devices, ioctls, parts, version::Version};
use gpuos_tracer_abi::ioctl::DeviceId;
use libfuzzer_sys::fuzz_target;

static MACHINES: LazyLock<[Devices; 3]> = LazyLock::new(|| {
    ["", "1.2", "580.159.04"].map(|version| {
        let characters = "195 nvidia\n226 drm\n236 kfd\n248 dma_heap\n511 nvidia-uvm\n";
        let mut devices = Devices::from_text(characters, "58 udmabuf\n");
        devices.nvidia_version = Version::parse(version);
        devices
    })
});

fuzz_target!(|numbers: (u8, u32, u32, u32)| {
    let (machine, device, command, detail) = numbers;
    let device = DeviceId(device);
    let devices = &MACHINES[usize::from(machine) % MACHINES.len()];
    let _ = ioctls::decode(devices, device, command, detail);
    let _ = ioctls::decode_mapping(devices, device, detail);
    let _ = (parts(command), status_name(device, detail, devices), devices.kind(device));
});
