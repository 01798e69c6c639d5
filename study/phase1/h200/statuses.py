"""Calls that NVIDIA's driver answers with 0 and refuses in the argument; prints what the argument says.

One line a call: device, ioctl number, detail (control command or class), returned value or -errno, status.
Layouts of driver 580: NVOS64 (alloc, 48 bytes), NVOS54 (control), NVOS00 (free), nv_ioctl_xfer_t.
"""
import ctypes, errno, os, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
times = int(sys.argv[1]) if len(sys.argv) > 1 else 3
ctl = os.open("/dev/nvidiactl", os.O_RDWR)
uvm = os.open("/dev/nvidia-uvm", os.O_RDWR)


def ioctl(fd, number, data):
    ctypes.set_errno(0)
    result = libc.ioctl(fd, ctypes.c_ulong(number), data)
    return result if result >= 0 else -ctypes.get_errno()


def word(data, at):
    return struct.unpack_from("<I", data, at)[0]


def say(device, number, detail, result, status):
    print(device, hex(number), hex(detail), result, hex(status if result >= 0 else 0))


def alloc(root, parent, handle, kind):
    data = ctypes.create_string_buffer(struct.pack("<IIII", root, parent, handle, kind) + bytes(32), 48)
    result = ioctl(ctl, 0xC030462B, data)
    say("nvidiactl", 0xC030462B, kind, result, word(data, 40))
    return word(data, 8)


def control(client, handle, command, envelope=False):
    data = ctypes.create_string_buffer(struct.pack("<IIII", client, handle, command, 0) + bytes(16), 32)
    if envelope:
        outer = ctypes.create_string_buffer(struct.pack("<IIQ", 0x2A, 32, ctypes.addressof(data)), 16)
        result = ioctl(ctl, 0xC01046D3, outer)
    else:
        result = ioctl(ctl, 0xC020462A, data)
    say("nvidiactl", 0xC020462A, command, result, word(data, 28))


def free(client, parent, handle):
    data = ctypes.create_string_buffer(struct.pack("<IIII", client, parent, handle, 0), 16)
    result = ioctl(ctl, 0xC0104629, data)
    say("nvidiactl", 0xC0104629, 0, result, word(data, 12))


def uvm_call(number, size, at):
    data = ctypes.create_string_buffer(size)
    result = ioctl(uvm, number, data)
    say("nvidia-uvm", number, 0, result, word(data, at))


version = ctypes.create_string_buffer(72)
say("nvidiactl", 0xC04846D2, 0, ioctl(ctl, 0xC04846D2, version), 0)
for turn in range(times):
    client = alloc(0, 0, 0, 0x41)
    alloc(client, client, 0xCAF00001, 0xDEAD)  # no such class
    alloc(client, 0xCAF0FFFF, 0xCAF00002, 0x80)  # no such parent
    control(client, client, 0x00000201)  # wrong size of parameters
    control(client, client, 0x12340101)  # no such command
    control(client, client, 0x12340102, envelope=True)
    control(0xC1D0FFFF, 0xC1D0FFFF, 0x00000202)  # no such client
    free(client, client, 0xCAF0AAAA)  # no such object
    free(client, 0, client)
    uvm_call(34, 24, 16)  # UVM_FREE before UVM_INITIALIZE
    uvm_call(37, 40, 36)  # UVM_REGISTER_GPU, likewise
    uvm_call(0x7FFF, 64, 0)  # no such command
