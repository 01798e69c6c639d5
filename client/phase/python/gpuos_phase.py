"""Marks phases of a program, for gpuos-trace to count by.

    import gpuos_phase
    with gpuos_phase.phase("work"):
        for batch in batches:
            with gpuos_phase.thread_range("forward"):
                ...
            gpuos_phase.iterations(1)

A marker is one system call that fails at once; without a tracer it does nothing. This file needs nothing but
the standard library: copy it beside your program. Labels are cut at 63 bytes of UTF-8.
"""
import contextlib
import ctypes


class _Marker(ctypes.Structure):
    _fields_ = [
        ("operation", ctypes.c_uint32),
        ("scope", ctypes.c_uint32),
        ("count", ctypes.c_uint64),
        ("label", ctypes.c_char * 64),
    ]


_ioctl = ctypes.CDLL(None).ioctl
_ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.POINTER(_Marker)]
_MARKER = 0x47505553  # "GPUS", on descriptor -1
_BEGIN, _END, _SWITCH, _ITERATIONS = 1, 2, 3, 4
_PROCESS, _THREAD = 0, 1


def _mark(operation, scope, count=0, label=""):
    text = label.encode()[:63].decode(errors="ignore").encode()
    _ioctl(-1, _MARKER, ctypes.byref(_Marker(operation, scope, count, text)))


def begin(label):
    """Begins a phase of the process inside the current one."""
    _mark(_BEGIN, _PROCESS, label=label)


def end():
    """Ends the current phase of the process."""
    _mark(_END, _PROCESS)


def switch(label):
    """Ends the current phase of the process, if there is one, and begins another in its place."""
    _mark(_SWITCH, _PROCESS, label=label)


def iterations(count):
    """Says that so many iterations were done in the current phase."""
    _mark(_ITERATIONS, _PROCESS, count)


def thread_begin(label):
    """Begins a phase of this thread alone."""
    _mark(_BEGIN, _THREAD, label=label)


def thread_end():
    """Ends the innermost phase of this thread."""
    _mark(_END, _THREAD)


@contextlib.contextmanager
def phase(label):
    """A phase of the process, as long as the block runs."""
    begin(label)
    try:
        yield
    finally:
        end()


@contextlib.contextmanager
def thread_range(label):
    """A phase of this thread, as long as the block runs."""
    thread_begin(label)
    try:
        yield
    finally:
        thread_end()
