//! Functions of drivers that can be watched (`--driver-hooks`): how much of a call is spent inside the driver, and
//! what reaches a driver without a system call of the traced program.

/// A function of a driver, with the programs at its entry and its return.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// Program at its entry.
    pub enter: &'static str,
    /// Program at its return.
    pub exit: &'static str,
    /// Its names; the first that the kernel has is the one.
    pub functions: &'static [&'static str],
}

const fn hook(enter: &'static str, exit: &'static str, functions: &'static [&'static str]) -> Hook {
    Hook { enter, exit, functions }
}

/// Every function, by the index that its programs have. Up to version 535 NVIDIA's driver has a front end.
pub const HOOKS: [Hook; 6] = [
    hook("nvidia_enter", "nvidia_exit", &["nvidia_unlocked_ioctl", "nvidia_frontend_unlocked_ioctl"]),
    hook("nvidia_uvm_enter", "nvidia_uvm_exit", &["uvm_unlocked_ioctl_entry"]),
    hook("nvidia_poll_enter", "nvidia_poll_exit", &["nvidia_poll", "nvidia_frontend_poll"]),
    hook("kfd_enter", "kfd_exit", &["kfd_ioctl"]),
    hook("drm_enter", "drm_exit", &["drm_ioctl"]),
    hook("amdgpu_enter", "amdgpu_exit", &["amdgpu_drm_ioctl"]),
];

/// What is counted at a function, on behalf of traced threads.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookCounts {
    /// Entries.
    pub calls: u64,
    /// Returns.
    pub returns: u64,
    /// Entries outside of a system call: the kernel's own.
    pub outside: u64,
    /// Nanoseconds inside, where it was not called by another watched function.
    pub total_ns: u64,
}

#[cfg(not(test))]
const _: () = assert!(size_of::<HookCounts>() == 32);
