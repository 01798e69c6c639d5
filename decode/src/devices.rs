//! Devices by their numbers: which driver is behind one, and what it is called.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use gpuos_tracer_abi::ioctl::{
    ANONYMOUS, BLOCK_DEVICE, DIRECTORY, DMA_BUF, DRIVER_KFD, DRIVER_NONE, DRIVER_NVIDIA, DRIVER_NVIDIA_UVM,
    DRIVER_OTHER_GPU, DeviceId, EPOLL, KFD_EVENTS, MAJORS, NOT_FOLLOWED, NOT_OPEN, NVIDIA_CONTROL_MINOR, NVIDIA_MAJOR,
    NVIDIA_MODESET_MINOR, PIPE, REGULAR_FILE, SOCKET, SYNC_FILE, SYNCOBJ, UNREADABLE,
};
use serde::{Deserialize, Serialize};

use crate::version::{Version, in_driver_text};

const DRM_MAJOR: u32 = 226;
const ACCEL_MAJOR: u32 = 261;
const MISC_MAJOR: u32 = 10;
// Pseudo-terminals, `UNIX98_PTY_SLAVE_MAJOR` and `UNIX98_PTY_MAJOR_COUNT` of `linux/major.h`.
const PTS_FIRST_MAJOR: u32 = 136;
const PTS_LAST_MAJOR: u32 = 143;

/// What is behind a device number, as far as decoding goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind<'a> {
    /// No GPU.
    NotGpu,
    /// `/dev/nvidiactl`, `/dev/nvidia<N>`.
    Nvidia,
    /// `/dev/nvidia-uvm`.
    NvidiaUvm,
    /// `/dev/nvidia-modeset`.
    NvidiaModeset,
    /// `/dev/kfd`.
    Kfd,
    /// A DRM or accelerator node, and its driver.
    Drm(&'a str),
    /// Memory shared between devices.
    DmaBuf,
    /// Where such memory comes from.
    DmaHeap,
    /// Likewise, from memory of the program.
    Udmabuf,
    /// A fence.
    SyncFile,
    /// GPU memory mapped for the CPU by gdrcopy.
    Gdrdrv,
    /// Other devices of GPU drivers: no table has their commands.
    OtherGpu,
}

/// Which drivers this machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// Names of character devices, by major number.
    characters: BTreeMap<u32, String>,
    /// Names of miscellaneous devices, by minor number.
    miscellaneous: BTreeMap<u32, String>,
    /// Drivers of DRM and accelerator nodes, by device number.
    graphics: BTreeMap<u32, String>,
    /// Version of NVIDIA's driver.
    pub nvidia_version: Option<Version>,
}

/// Pairs of number and name: `/proc/misc`, and the part of `/proc/devices` about character devices.
fn numbered(text: &str) -> BTreeMap<u32, String> {
    let pair = |line: &str| {
        let (number, name) = line.trim().split_once(char::is_whitespace)?;
        Some((number.parse().ok()?, name.trim().to_owned()))
    };
    text.lines().take_while(|line| !line.starts_with("Block devices")).filter_map(pair).collect()
}

impl Devices {
    /// Reads what the kernel tells. What it does not tell is left out.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let nvidia_version = in_driver_text(&text("/proc/driver/nvidia/version"))
            .or_else(|| Version::parse(text("/sys/module/nvidia/version").trim()));
        Self { graphics: graphics(), nvidia_version, ..Self::from_text(&text("/proc/devices"), &text("/proc/misc")) }
    }

    /// From the text of `/proc/devices` and `/proc/misc` alone.
    #[must_use]
    pub fn from_text(devices: &str, misc: &str) -> Self {
        Self { characters: numbered(devices), miscellaneous: numbered(misc), ..Self::default() }
    }

    /// Looks again, and says whether anything is new: a module may have come. Nothing is forgotten.
    pub fn look_again(&mut self) -> bool {
        let text = fs::read_to_string("/proc/devices").unwrap_or_default();
        let found = numbered(&text);
        if found.iter().all(|(major, name)| self.characters.get(major) == Some(name)) {
            return false;
        }
        self.look_at_all();
        true
    }

    /// Looks at everything again: a driver may have taken a node whose number was there before. Nothing is
    /// forgotten, and a version that is known stays.
    pub fn look_at_all(&mut self) {
        let now = Self::of_this_machine();
        self.characters.extend(now.characters);
        self.miscellaneous.extend(now.miscellaneous);
        self.graphics.extend(now.graphics);
        self.nvidia_version = self.nvidia_version.take().or(now.nvidia_version);
    }

    #[cfg(test)]
    pub(crate) fn for_tests(devices: &str, graphics: &[(u32, &str)], nvidia_version: Option<Version>) -> Self {
        Self {
            graphics: graphics
                .iter()
                .map(|&(minor, driver)| (DeviceId::new(DRM_MAJOR, minor).0, driver.to_owned()))
                .collect(),
            nvidia_version,
            ..Self::from_text(devices, "")
        }
    }

    /// For the kernel side: the driver of each major number.
    #[must_use]
    pub fn drivers(&self) -> Vec<u32> {
        let mut drivers = vec![DRIVER_NONE; MAJORS as usize];
        for (&major, name) in &self.characters {
            let driver = match name.as_str() {
                _ if major == NVIDIA_MAJOR => DRIVER_NVIDIA,
                "nvidia-uvm" => DRIVER_NVIDIA_UVM,
                "kfd" => DRIVER_KFD,
                name if name.starts_with("nvidia") => DRIVER_OTHER_GPU,
                "drm" | "accel" | "dma_heap" | "gdrdrv" => DRIVER_OTHER_GPU,
                _ => continue,
            };
            if let Some(place) = drivers.get_mut(major as usize) {
                *place = driver;
            }
        }
        drivers
    }

    /// What is behind a device number of the ABI crate's `ioctl`.
    #[must_use]
    pub fn kind(&self, device: DeviceId) -> DeviceKind<'_> {
        match device {
            DMA_BUF => return DeviceKind::DmaBuf,
            SYNC_FILE => return DeviceKind::SyncFile,
            SYNCOBJ | KFD_EVENTS => return DeviceKind::OtherGpu,
            _ if !device.is_device() => return DeviceKind::NotGpu,
            _ => {}
        }
        let (major, minor) = (device.major(), device.minor());
        match (major, self.characters.get(&major).map_or("", String::as_str)) {
            (NVIDIA_MAJOR, _) if minor == NVIDIA_MODESET_MINOR => DeviceKind::NvidiaModeset,
            (NVIDIA_MAJOR, _) => DeviceKind::Nvidia,
            (DRM_MAJOR | ACCEL_MAJOR, _) => DeviceKind::Drm(self.graphics.get(&device.0).map_or("", String::as_str)),
            (_, "nvidia-uvm") => DeviceKind::NvidiaUvm,
            (_, "kfd") => DeviceKind::Kfd,
            (_, "dma_heap") => DeviceKind::DmaHeap,
            (_, "gdrdrv") => DeviceKind::Gdrdrv,
            (_, name) if name.starts_with("nvidia") => DeviceKind::OtherGpu,
            (MISC_MAJOR, _) if self.miscellaneous.get(&minor).is_some_and(|name| name == "udmabuf") => {
                DeviceKind::Udmabuf
            }
            _ => DeviceKind::NotGpu,
        }
    }

    /// What a device is called: the name of its node without `/dev/`, or what an fd without a device is.
    #[must_use]
    pub fn name(&self, device: DeviceId) -> String {
        let (major, minor) = (device.major(), device.minor());
        let word = match device {
            NOT_OPEN => "not open",
            UNREADABLE => "not readable",
            NOT_FOLLOWED => "not known",
            REGULAR_FILE => "file",
            DIRECTORY => "directory",
            SOCKET => "socket",
            PIPE => "pipe",
            BLOCK_DEVICE => "block device",
            DMA_BUF => "dma-buf",
            SYNC_FILE => "sync_file",
            SYNCOBJ => "syncobj",
            KFD_EVENTS => "kfd events",
            ANONYMOUS => "anonymous file",
            EPOLL => "epoll",
            _ => match (major, self.characters.get(&major).map_or("", String::as_str)) {
                (NVIDIA_MAJOR, _) if minor == NVIDIA_CONTROL_MINOR => "nvidiactl",
                (NVIDIA_MAJOR, _) if minor == NVIDIA_MODESET_MINOR => "nvidia-modeset",
                (NVIDIA_MAJOR, _) => return format!("nvidia{minor}"),
                (_, "nvidia-uvm") => match minor {
                    0 => "nvidia-uvm",
                    _ => "nvidia-uvm-tools",
                },
                (_, "kfd") => "kfd",
                (DRM_MAJOR, _) if minor < 64 => return format!("card{minor}"),
                (DRM_MAJOR, _) if (128..192).contains(&minor) => return format!("renderD{minor}"),
                (ACCEL_MAJOR, _) => return format!("accel{minor}"),
                (PTS_FIRST_MAJOR..=PTS_LAST_MAJOR, _) => {
                    return format!("pts/{}", (major - PTS_FIRST_MAJOR) * 256 + minor);
                }
                // Not every driver tells sysfs of its nodes: NVIDIA's does not.
                (_, driver) => {
                    let number = || match driver {
                        "" => format!("char {major}:{minor}"),
                        driver => format!("{driver} {minor}"),
                    };
                    return node_name(major, minor).unwrap_or_else(number);
                }
            },
        };
        word.to_owned()
    }
}

/// Nodes of character devices in the file system of `/dev`, and the numbers of their devices. No links, and nothing that
/// is mounted below: others may write there.
#[must_use]
pub fn nodes() -> Vec<(String, DeviceId)> {
    let mut nodes = Vec::new();
    let mut folders = vec![Path::new("/dev").to_owned()];
    let file_system = |path: &Path| fs::symlink_metadata(path).map(|facts| facts.dev()).ok();
    let of_devices = file_system(Path::new("/dev"));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            // A file may be mounted over it, and is what is asked then.
            if kind.is_char_device()
                && let Some(facts) = entry.metadata().ok().filter(|facts| facts.file_type().is_char_device())
            {
                let device = DeviceId::new(libc::major(facts.rdev()), libc::minor(facts.rdev()));
                nodes.push((path.to_string_lossy().into_owned(), device));
            } else if kind.is_dir() && file_system(&path) == of_devices {
                folders.push(path);
            }
        }
    }
    nodes
}

/// The name that the kernel gives a device's node.
fn node_name(major: u32, minor: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/uevent")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(str::to_owned)
}

/// Drivers of DRM and accelerator nodes: of the device behind a node, or where it has none (vgem) its name.
fn graphics() -> BTreeMap<u32, String> {
    let base = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let entries = ["/sys/class/drm", "/sys/class/accel"].into_iter().filter_map(|folder| fs::read_dir(folder).ok());
    entries
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let numbers = fs::read_to_string(entry.path().join("dev")).ok()?;
            let (major, minor) = numbers.trim().split_once(':')?;
            let device = DeviceId::new(major.parse().ok()?, minor.parse().ok()?);
            let behind = entry.path().join("device");
            // Devices without hardware (vgem) have no driver, or a common one.
            let driver = fs::read_link(behind.join("driver")).ok().as_deref().and_then(base);
            let driver = driver.filter(|driver| driver != "faux_driver");
            Some((device.0, driver.or_else(|| base(&fs::canonicalize(behind).ok()?))?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: &str = "Character devices:\n  1 mem\n  5 /dev/tty\n195 nvidia\n226 drm\n236 kfd\n510 nvidia-caps\n511 nvidia-uvm\n\nBlock devices:\n  8 sd\n236 device-mapper\n";

    #[test]
    fn drivers_come_from_the_kernels_list() {
        let devices = Devices::for_tests(DEVICES, &[(128, "amdgpu")], None);
        let drivers = devices.drivers();
        let at = |major: usize| drivers[major];
        assert_eq!((at(195), at(511), at(236)), (DRIVER_NVIDIA, DRIVER_NVIDIA_UVM, DRIVER_KFD));
        assert_eq!((at(510), at(226), at(1)), (DRIVER_OTHER_GPU, DRIVER_OTHER_GPU, DRIVER_NONE));
        let name = |major: u32, minor: u32| devices.name(DeviceId::new(major, minor));
        assert_eq!(name(195, 255), "nvidiactl");
        assert_eq!(name(195, 3), "nvidia3");
        assert_eq!(name(511, 1), "nvidia-uvm-tools");
        assert_eq!(name(226, 128), "renderD128");
        assert_eq!(name(136, 7), "pts/7");
        assert_eq!(devices.kind(DeviceId::new(226, 128)), DeviceKind::Drm("amdgpu"));
        assert_eq!(devices.kind(DeviceId::new(1, 3)), DeviceKind::NotGpu);
    }
}
