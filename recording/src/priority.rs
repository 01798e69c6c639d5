//! Whose turn it is: the thread that empties the ring goes before everybody, the one that writes columns after.

/// The calling thread goes first: programs that fill every CPU must not keep it waiting, since the ring has room for a
/// tenth of a second. Where that is refused, it waits its turn.
pub(crate) fn first() {
    set(-20);
}

/// The calling thread gives way to everybody. Says what it was before, for [`set`].
pub(crate) fn last() -> libc::c_int {
    // SAFETY: two integers; 0 is the calling thread.
    let before = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    set(19);
    before
}

/// Sets the nice value of the calling thread. A lower one needs a privilege that root has.
pub(crate) fn set(nice: libc::c_int) {
    // SAFETY: three integers; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}
