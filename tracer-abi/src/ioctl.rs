//! Calls on devices: what an fd is, and by which rules the arguments of a driver's commands are read.
//!
//! The kernel side keeps numbers (device, command, detail); names are given in user space. What it must know of
//! a driver's structures comes from user space as [`Rule`]s, chosen for the version of the driver.

const MINOR_BITS: u32 = 20;

/// A device by its number, in the kernel's own coding of `i_rdev` (`MKDEV` of `linux/kdev_t.h`), or what an fd without a
/// device is. 0: not looked at.
#[repr(transparent)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u32);

impl DeviceId {
    /// No call on an fd, or nobody looked.
    pub const NONE: Self = Self(0);

    /// By its major and minor number.
    #[inline(always)]
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self(major << MINOR_BITS | minor)
    }

    /// Major number.
    #[inline(always)]
    #[must_use]
    pub const fn major(self) -> u32 {
        self.0 >> MINOR_BITS
    }

    /// Minor number.
    #[inline(always)]
    #[must_use]
    pub const fn minor(self) -> u32 {
        self.0 & ((1 << MINOR_BITS) - 1)
    }

    /// Whether it is one: the others are what an fd without a device is.
    #[inline(always)]
    #[must_use]
    pub const fn is_device(self) -> bool {
        self.major() != NO_DEVICE_MAJOR
    }
}

/// No driver has this major number: with it, the minor number tells what an fd without a device is.
const NO_DEVICE_MAJOR: u32 = 0xfff;

/// Not open, or opened with `O_PATH`: the call fails with `EBADF`.
pub const NOT_OPEN: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 1);
/// The kernel's structures could not be followed.
pub const UNREADABLE: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 2);
/// Not known: the kernel shows no type information, and nothing was seen that made this fd.
pub const NOT_FOLLOWED: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 3);
/// A file.
pub const REGULAR_FILE: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 4);
/// A directory.
pub const DIRECTORY: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 5);
/// A socket.
pub const SOCKET: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 6);
/// A pipe.
pub const PIPE: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 7);
/// A block device, whichever.
pub const BLOCK_DEVICE: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 8);
/// Memory shared between devices.
pub const DMA_BUF: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 16);
/// A fence of the graphics drivers.
pub const SYNC_FILE: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 17);
/// A DRM synchronization object as a file.
pub const SYNCOBJ: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 18);
/// Events of the AMD compute driver.
pub const KFD_EVENTS: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 19);
/// Whether an fd that is no device belongs to drivers of GPUs.
#[inline(always)]
#[must_use]
pub const fn is_of_gpu_drivers(device: DeviceId) -> bool {
    matches!(device, DMA_BUF | SYNC_FILE | SYNCOBJ | KFD_EVENTS)
}

/// An anonymous file of the kernel: eventfd, perf event and others.
pub const ANONYMOUS: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 24);
/// An epoll instance.
pub const EPOLL: DeviceId = DeviceId::new(NO_DEVICE_MAJOR, 25);

/// Values of the `DRIVERS` map. Major 195 has the NVIDIA driver, and on minor 254 its modeset part.
pub const DRIVER_NONE: u32 = 0;
/// `/dev/nvidiactl` and `/dev/nvidia<N>`: escapes.
pub const DRIVER_NVIDIA: u32 = 1;
/// `/dev/nvidia-uvm`: plain small numbers.
pub const DRIVER_NVIDIA_UVM: u32 = 2;
/// `/dev/nvidia-modeset`: one envelope.
pub const DRIVER_NVIDIA_MODESET: u32 = 3;
/// `/dev/kfd`: AMD compute.
pub const DRIVER_KFD: u32 = 4;
/// Any other driver of GPUs or accelerators: its commands need no rules.
pub const DRIVER_OTHER_GPU: u32 = 8;

/// Length of the `DRIVERS` map: majors of character devices end at 511 (`CHRDEV_MAJOR_MAX`).
pub const MAJORS: u32 = 512;
/// Major of the NVIDIA driver, fixed.
pub const NVIDIA_MAJOR: u32 = 195;
/// Minor of `/dev/nvidiactl`.
pub const NVIDIA_CONTROL_MINOR: u32 = 255;
/// Minor of its modeset part.
pub const NVIDIA_MODESET_MINOR: u32 = 254;

/// First rule of each driver in the `RULES` map, and its length.
pub const NVIDIA_RULES: u32 = 0;
/// By the number.
pub const NVIDIA_UVM_RULES: u32 = 256;
/// One.
pub const NVIDIA_MODESET_RULES: u32 = 768;
/// By the low eight bits.
pub const KFD_RULES: u32 = 1024;
/// Length of the `RULES` map.
pub const RULES: u32 = 1280;

/// Number of the NVIDIA escape that carries another one, for arguments larger than an ioctl number can tell.
pub const NVIDIA_ENVELOPE: u32 = 0xd3;

/// `FIGETBSZ` of linux/fs.h, and the type of `FIONBIO`, `FIOCLEX` and their like in asm/ioctls.h, whose numbers have no
/// size: the kernel answers them itself on every file, and no driver writes a status.
const FIGETBSZ: u32 = 2;
const OF_EVERY_FILE: u32 = 0x54;

/// Place of the rule for a call. `None` where there is none.
#[inline(always)]
#[must_use]
pub const fn rule_of_call(driver: u32, command: u32) -> Option<u32> {
    if command == FIGETBSZ || command >> 8 == OF_EVERY_FILE { None } else { rule_index(driver, command) }
}

/// Place of a rule, by the number of the driver's command. `None` where its commands need none.
#[inline(always)]
#[must_use]
pub const fn rule_index(driver: u32, number: u32) -> Option<u32> {
    match driver {
        DRIVER_NVIDIA => Some(NVIDIA_RULES + (number & 0xff)),
        // UVM_INITIALIZE and UVM_DEINITIALIZE.
        DRIVER_NVIDIA_UVM if number == 0x3000_0001 || number == 0x3000_0002 => {
            Some(NVIDIA_UVM_RULES + 0x1f0 + (number & 0xf))
        }
        DRIVER_NVIDIA_UVM if number < 0x1f0 => Some(NVIDIA_UVM_RULES + number),
        DRIVER_NVIDIA_UVM => None,
        DRIVER_NVIDIA_MODESET => Some(NVIDIA_MODESET_RULES),
        DRIVER_KFD => Some(KFD_RULES + (number & 0xff)),
        _ => None,
    }
}

/// The argument has nothing that tells calls apart.
pub const DETAIL_NONE: u32 = 0;
/// The detail is the word at `detail_at`.
pub const DETAIL_WORD: u32 = 1;
/// The detail is the class of the object whose handle stands at `detail_at` and whose client at `client_at`.
pub const DETAIL_CLASS: u32 = 2;

/// Nothing follows from success.
pub const EFFECT_NONE: u32 = 0;
/// The object at `object_client_at`, `object_at` is of the class that the detail names.
pub const EFFECT_LEARN: u32 = 1;
/// That object is gone.
pub const EFFECT_FORGET: u32 = 2;
/// The next `mmap` of the fd at `object_at` maps an object of the class that the detail names.
pub const EFFECT_MAP: u32 = 3;
/// What the function of the video heap that the detail names does, by [`heap_function`].
pub const EFFECT_HEAP: u32 = 4;

/// Stands for the class of an object that a function of the video heap made: the argument has none, the driver chooses it
/// by flags and attributes. The low bits are the function. Classes have sixteen bits.
pub const MADE_BY_HEAP: u32 = 0x4000_0000;

/// What a function of `NV_ESC_RM_VID_HEAP_CONTROL` does with an object, and where the object's handle stands in what
/// the functions have of their own (`NVOS32_PARAMETERS.data` of NVIDIA's nvos.h; `owner` comes first, but for
/// `ALLOC_OS_DESCRIPTOR`).
#[inline(always)]
#[must_use]
pub const fn heap_function(function: u32) -> (u32, u32) {
    match function {
        // ALLOC_SIZE, ALLOC_TILED_PITCH_HEIGHT, ALLOC_SIZE_RANGE
        2 | 6 | 14 => (EFFECT_LEARN, 4),
        // ALLOC_OS_DESCRIPTOR
        27 => (EFFECT_LEARN, 0),
        // FREE
        3 => (EFFECT_FORGET, 4),
        _ => (EFFECT_NONE, 0),
    }
}

/// The command has nothing to do with queues.
pub const QUEUE_KEPT: u32 = 0;
/// It makes a queue of work for a GPU, or what holds queues.
pub const QUEUE_MADE: u32 = 1;
/// It ends one.
pub const QUEUE_ENDED: u32 = 2;
/// It makes an object of the class that the detail names, which may be one.
pub const QUEUE_MADE_BY_CLASS: u32 = 3;
/// It ends such an object.
pub const QUEUE_ENDED_BY_CLASS: u32 = 4;

/// The argument could not be read.
pub const DETAIL_UNREADABLE: u32 = 0xffff_fffe;
/// The class is not known: the object was made before the trace, or found no place.
pub const DETAIL_UNKNOWN: u32 = 0xffff_fffd;
/// Nobody looked at the argument: the call did not return, in a recording, or its driver was not known yet.
pub const DETAIL_NOT_SEEN: u32 = 0xffff_fffc;

/// No status in the argument.
pub const NO_STATUS: u32 = u32::MAX;
/// Matches an argument of every size.
pub const ANY_SIZE: u32 = u32::MAX;

/// Where a driver writes its status into the argument.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusPlace {
    /// For arguments of this many bytes, or [`ANY_SIZE`].
    pub size: u32,
    /// Offset of the status word, or [`NO_STATUS`].
    pub at: u32,
}

/// How to read the argument of one command. Offsets are in bytes.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// One of the `DETAIL_` kinds.
    pub detail: u32,
    /// Offset of the detail's word.
    pub detail_at: u32,
    /// Offset of the client of the handle there.
    pub client_at: u32,
    /// One of the `EFFECT_` values, done at the return when the status is 0.
    pub effect: u32,
    /// Offset of the client of the object it is about.
    pub object_client_at: u32,
    /// Offset of its handle; with [`EFFECT_HEAP`] of what the functions have of their own.
    pub object_at: u32,
    /// One of the `QUEUE_` values.
    pub queue: u32,
    /// Zero.
    pub padding: u32,
    /// The first that matches the size of the argument.
    pub status: [StatusPlace; 3],
}

/// The command and the size of the argument that NVIDIA's envelope holds, by its first word (`nv_ioctl_xfer_t` of NVIDIA's
/// nv-ioctl.h: `cmd`, `size`).
#[inline(always)]
#[must_use]
pub const fn in_envelope(word: u64) -> (u32, u32) {
    let (number, size) = (word as u32 & 0xff, (word >> 32) as u32);
    (0xc000_4600 | (size & 0x3fff) << 16 | number, size)
}

impl Rule {
    /// What a successful call means for later ones, by its detail: one of the `EFFECT_` values but [`EFFECT_HEAP`], the offset of
    /// the object's handle, and the class of what it made.
    #[inline(always)]
    #[must_use]
    pub const fn effect_of(&self, detail: u32) -> (u32, u32, u32) {
        if self.effect == EFFECT_HEAP {
            let (effect, handle_at) = heap_function(detail);
            (effect, self.object_at + handle_at, MADE_BY_HEAP | detail)
        } else {
            (self.effect, self.object_at, detail)
        }
    }

    /// The argument is not looked at.
    pub const NONE: Self = Self {
        detail: DETAIL_NONE,
        detail_at: 0,
        client_at: 0,
        effect: EFFECT_NONE,
        object_client_at: 0,
        object_at: 0,
        queue: QUEUE_KEPT,
        padding: 0,
        status: [StatusPlace { size: ANY_SIZE, at: NO_STATUS }; 3],
    };
}

/// An object of the NVIDIA driver.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    /// Handle of the client it belongs to, unique in the machine.
    pub client: u32,
    /// Its handle, unique in the client.
    pub handle: u32,
}

/// The device call that a thread is in, and what its earlier ones left.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Address of the argument in the program's memory.
    pub argument: u64,
    /// Row number + 1, or `SLOT_TOTALS`.
    pub slot: u32,
    /// Place of the rule.
    pub rule: u32,
    /// Bytes of the argument.
    pub size: u32,
    /// Device of the row's key, for the slow path.
    pub device: DeviceId,
    /// Command of the row's key.
    pub command: u32,
    /// Detail of the row's key.
    pub detail: u32,
    /// Fd that [`EFFECT_MAP`] made ready, + 1; 0: none.
    pub mapped: u32,
    /// Class of the object behind it.
    pub mapped_class: u32,
}

impl Pending {
    /// None yet.
    pub const NONE: Self = Self {
        argument: 0,
        slot: 0,
        rule: 0,
        size: 0,
        device: DeviceId::NONE,
        command: 0,
        detail: 0,
        mapped: 0,
        mapped_class: 0,
    };
}

/// So many commands are told apart by the slower path, of all threads together; a program chooses its numbers, and
/// must not fill the map of totals with them.
pub const MOST_SLOW_COMMANDS: u64 = 4096;
/// Command of the calls beyond, and their detail: together they are no call of a program's.
pub const OTHER_COMMANDS: u32 = u32::MAX;

/// Places in a thread's table of its rows.
pub const ROW_TABLE: usize = 512;
/// Entry of a thread's `slot_by_syscall` for calls that are counted by device.
pub const SLOT_BY_DEVICE: u16 = u16::MAX;

/// Bytes of `struct file` that are read at once.
pub const FILE_WINDOW: usize = 64;
/// Bytes of `struct inode` that are read at once, from its beginning.
pub const INODE_WINDOW: usize = 96;

#[cfg(not(test))]
const _: () = {
    assert!(size_of::<Rule>() == 56);
    assert!(size_of::<Object>() == 8);
    assert!(size_of::<Pending>() == 40);
    assert!(KFD_RULES + 256 == RULES);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_different_drivers_do_not_meet() {
        assert_eq!(rule_index(DRIVER_NVIDIA, 0xc020_462a), Some(0x2a));
        assert_eq!(rule_index(DRIVER_NVIDIA_UVM, 27), Some(256 + 27));
        assert_eq!(rule_index(DRIVER_NVIDIA_UVM, 0x3000_0001), Some(256 + 0x1f1));
        assert_eq!(rule_index(DRIVER_KFD, 0xc018_4b0c), Some(1024 + 12));
        assert_eq!(rule_index(DRIVER_OTHER_GPU, 1), None);
        // AMDKFD_IOC_CREATE_QUEUE has a rule, FIGETBSZ of the same number has none; nor has FIONBIO.
        assert_eq!(rule_of_call(DRIVER_KFD, 0xc060_4b02), rule_index(DRIVER_KFD, 2));
        assert_eq!((rule_of_call(DRIVER_KFD, 2), rule_of_call(DRIVER_NVIDIA_UVM, 0x5421)), (None, None));
        assert_eq!(rule_of_call(DRIVER_NVIDIA_UVM, 0x221), None, "numbers of UVM are whole");
    }
}
