//! Calls on devices: what their argument says, by the rules of each driver, as the kernel side reads them
//! (`tracer-ebpf/src/count/ioctl.rs`).

use std::collections::HashMap;

use gpuos_decode::{devices::Devices, driver_rules};
use gpuos_tracer_abi::ioctl::{
    ANY_SIZE, DETAIL_CLASS, DETAIL_NOT_SEEN, DETAIL_UNKNOWN, DETAIL_UNREADABLE, DETAIL_WORD, DRIVER_KFD, DRIVER_NONE,
    DRIVER_NVIDIA, DRIVER_NVIDIA_MODESET, DRIVER_OTHER_GPU, DeviceId, EFFECT_FORGET, EFFECT_LEARN, EFFECT_MAP,
    NO_STATUS, NVIDIA_ENVELOPE, NVIDIA_MAJOR, NVIDIA_MODESET_MINOR, Object, Rule, in_envelope, is_of_gpu_drivers,
    rule_of_call,
};

use super::fds::{awaited_by, device_of, value_of};

/// What is known of drivers, and of their objects.
#[derive(Debug)]
pub(super) struct Drivers {
    by_major: Vec<u32>,
    rules: Vec<Rule>,
    objects: HashMap<Object, u32>,
    most_objects: usize,
    /// Objects that found no place.
    pub(super) without_class: u64,
    /// Arguments that could not be read.
    pub(super) unreadable: u64,
    gpu_seen: bool,
}

/// A call on a device, from its entry on.
#[derive(Clone, Debug, Default)]
pub(super) struct OnDevice {
    pub(super) device: DeviceId,
    pub(super) command: u32,
    pub(super) detail: u32,
    /// Of a call whose driver has rules: its argument.
    pub(super) argument: Option<Argument>,
}

/// Where an argument is.
#[derive(Clone, Debug)]
pub(super) struct Argument {
    pub(super) address: u64,
    pub(super) size: u32,
    rule: Option<Rule>,
}

/// Fd that a call made ready, and the class of the object behind it: for the thread's next `mmap`.
pub(super) type Mapped = Option<(u32, u32)>;

/// `MAP_ANONYMOUS` of `linux/mman.h`.
const MAP_ANONYMOUS: u64 = 0x20;
/// As many fds of a `poll` are looked at, and of an epoll instance.
const POLLED: u64 = 4;
const AWAITED: usize = 3;

impl Drivers {
    pub(super) fn new(devices: &Devices, most_objects: u32, seen: bool) -> Self {
        Self {
            by_major: devices.drivers(),
            rules: driver_rules::rules(devices.nvidia_version.as_ref()),
            objects: HashMap::new(),
            most_objects: most_objects as usize,
            without_class: 0,
            unreadable: 0,
            gpu_seen: seen,
        }
    }

    /// Drivers as they are now: one may have come.
    pub(super) fn look_again(&mut self, devices: &Devices) {
        self.by_major = devices.drivers();
    }

    fn driver_of(&self, device: DeviceId) -> u32 {
        if !device.is_device() {
            return if is_of_gpu_drivers(device) { DRIVER_OTHER_GPU } else { DRIVER_NONE };
        }
        if device.major() == NVIDIA_MAJOR && device.minor() == NVIDIA_MODESET_MINOR {
            return DRIVER_NVIDIA_MODESET;
        }
        self.by_major.get(device.major() as usize).copied().unwrap_or(DRIVER_NONE)
    }

    fn read<T: bytemuck::AnyBitPattern>(&mut self, thread: u32, address: u64) -> Option<T> {
        let value = value_of(thread, address);
        self.unreadable += u64::from(value.is_none());
        value
    }

    /// An `ioctl` is entered. `keeps_all`: a recording wants the argument at its return in any case.
    pub(super) fn ioctl(&mut self, thread: u32, arguments: &[u64; 6], keeps_all: bool) -> OnDevice {
        let (fd, command) = (arguments[0] as u32, arguments[1] as u32);
        let mut call = OnDevice { device: device_of(thread, fd), command, ..OnDevice::default() };
        let driver = self.driver_of(call.device);
        if driver == DRIVER_NONE {
            if call.device.is_device() {
                call.detail = DETAIL_NOT_SEEN;
            }
            return call;
        }
        self.gpu_seen = true;
        let (mut address, mut size) = (arguments[2], command >> 16 & 0x3fff);
        if driver == DRIVER_NVIDIA && command & 0xff == NVIDIA_ENVELOPE {
            let Some([number_and_size, inside]) = self.read::<[u64; 2]>(thread, address) else {
                call.detail = DETAIL_UNREADABLE;
                return call;
            };
            // As if it had come without the envelope.
            (call.command, size) = in_envelope(number_and_size);
            address = inside;
        }
        let rule = rule_of_call(driver, call.command).and_then(|index| self.rules.get(index as usize)).copied();
        call.detail = match rule {
            Some(rule) if rule.detail == DETAIL_WORD => {
                self.read(thread, address + u64::from(rule.detail_at)).unwrap_or(DETAIL_UNREADABLE)
            }
            Some(rule) if rule.detail == DETAIL_CLASS => {
                match self.object_in(thread, address, rule.client_at, rule.detail_at) {
                    Some(object) => self.objects.get(&object).copied().unwrap_or(DETAIL_UNKNOWN),
                    None => DETAIL_UNREADABLE,
                }
            }
            _ => 0,
        };
        if rule.is_some() || keeps_all {
            call.argument = Some(Argument { address, size, rule });
        }
        call
    }

    fn object_in(&mut self, thread: u32, argument: u64, client_at: u32, handle_at: u32) -> Option<Object> {
        let handle: u32 = self.read(thread, argument + u64::from(handle_at))?;
        match self.read::<u32>(thread, argument + u64::from(client_at))? {
            // A client is the root of its own objects.
            0 => Some(Object { client: handle, handle }),
            client => Some(Object { client, handle }),
        }
    }

    /// Another call that may be on a GPU is entered.
    pub(super) fn other(&mut self, thread: u32, name: &str, arguments: &[u64; 6], mapped: &mut Mapped) -> OnDevice {
        if !self.gpu_seen {
            return OnDevice::default();
        }
        let fds: Vec<u32> = match name {
            "poll" | "ppoll" => {
                let places = 0..arguments[1].min(POLLED);
                places.map_while(|place| value_of(thread, arguments[0] + place * 8)).collect()
            }
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => {
                awaited_by(thread, arguments[0] as u32).into_iter().take(AWAITED).collect()
            }
            "mmap" if arguments[3] & MAP_ANONYMOUS != 0 => Vec::new(),
            "mmap" => vec![arguments[4] as u32],
            "epoll_ctl" => vec![arguments[2] as u32],
            "read" => vec![arguments[0] as u32],
            _ => Vec::new(),
        };
        let on_gpu = fds
            .into_iter()
            .map(|fd| (fd, device_of(thread, fd)))
            .find(|(_, device)| self.driver_of(*device) != DRIVER_NONE);
        let Some((fd, device)) = on_gpu else { return OnDevice::default() };
        let mut call = OnDevice { device, ..OnDevice::default() };
        if name == "mmap" {
            if self.driver_of(device) == DRIVER_KFD {
                // KFD_MMAP_TYPE of the driver's kfd_priv.h; + 1, because 0 is none.
                call.detail = (arguments[5] >> 62) as u32 + 1;
            } else if let Some((_, class)) = mapped.take_if(|(ready, _)| *ready == fd) {
                call.detail = class;
            }
        }
        call
    }

    /// A call with an argument has returned. Gives the driver's own status.
    pub(super) fn returned(&mut self, thread: u32, call: &OnDevice, returned: i64, mapped: &mut Mapped) -> u32 {
        let Some(Argument { address, size, rule: Some(rule) }) = call.argument.clone().filter(|_| returned >= 0) else {
            return 0;
        };
        let place =
            rule.status.iter().find(|place| place.at != NO_STATUS && (place.size == ANY_SIZE || place.size == size));
        let status = place.and_then(|place| self.read(thread, address + u64::from(place.at))).unwrap_or(0);
        if status == 0 {
            self.remember(thread, &rule, address, call.detail, mapped);
        }
        status
    }

    /// Keeps what a successful call means for later ones.
    fn remember(&mut self, thread: u32, rule: &Rule, argument: u64, detail: u32, mapped: &mut Mapped) {
        let (effect, object_at, class) = rule.effect_of(detail);
        match effect {
            EFFECT_LEARN => {
                let Some(object) = self.object_in(thread, argument, rule.object_client_at, object_at) else { return };
                if self.objects.len() < self.most_objects || self.objects.contains_key(&object) {
                    self.objects.insert(object, if class == DETAIL_UNREADABLE { DETAIL_UNKNOWN } else { class });
                } else {
                    self.without_class += 1;
                }
            }
            EFFECT_FORGET => {
                if let Some(object) = self.object_in(thread, argument, rule.object_client_at, object_at) {
                    self.objects.remove(&object);
                }
            }
            EFFECT_MAP => {
                if let Some(fd) = self.read::<u32>(thread, argument + u64::from(object_at)) {
                    *mapped = Some((fd, detail));
                }
            }
            _ => {}
        }
    }
}
