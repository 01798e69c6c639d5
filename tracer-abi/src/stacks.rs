//! Where in a program calls are made (`--stacks`).

/// No stack: the kernel could not walk it, or another one had taken its place.
pub const NO_STACK: u32 = u32::MAX;
/// Addresses of one stack, the innermost first (`PERF_MAX_STACK_DEPTH`); 0 ends it.
pub const DEPTH: usize = 127;

/// A place in a program at which a system call was made.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StackSite {
    /// Process id.
    pub process: u64,
    /// Number of the stack in the map of stacks, or [`NO_STACK`].
    pub stack: u32,
    /// System call number.
    pub number: u32,
}

#[cfg(not(test))]
const _: () = assert!(size_of::<StackSite>() == 16);
