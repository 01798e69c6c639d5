"""Prints how many ioctls on GPUs a run has, how many different ones, and by device."""
import collections, sys

from run_file import rows_of

devices, keys = collections.Counter(), set()
for row in rows_of(sys.argv[1]):
    if row["syscall"] == "ioctl" and row["decoded"]:
        devices[row["device"]] += row["calls"]
        keys.add((row["device"], row["ioctl_number"], row["detail_number"]))
print(sum(devices.values()), "ioctls on GPUs,", len(keys), "different,", dict(devices))
