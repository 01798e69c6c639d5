"""Compares a run's decoded ioctls with the reference counter (oracle.c) and with strace's count; prints one line."""
import collections, sys

from run_file import rows_of

name, run, oracle, strace = sys.argv[1:]
ours = collections.Counter()
rows = rows_of(run)
total = sum(row["calls"] for row in rows if row["syscall"] == "ioctl")
gpu = [row for row in rows if row["syscall"] == "ioctl" and row["decoded"]]
WORDS = {0x2A, 0x2B, 0x27, 0x29, 0x34, 0x4A, 0x4E, 0x4F, 0x57, 0x58}
for row in gpu:
    number = row["ioctl_number"] & 0xFF
    word = row["detail_number"] if "uvm" not in row["device"] and number in WORDS else 0
    key = ("/dev/" + row["device"], row["ioctl_number"], word)
    for column in ("calls", "errors", "refused"):
        ours[key + (column,)] += row[column]
theirs = collections.Counter()
for line in open(oracle):
    device, command, word, calls, errors, refused, status = line.strip().split(",")
    for column, value in (("calls", calls), ("errors", errors), ("refused", refused)):
        theirs[(device, int(command), int(word), column)] += int(value)
different = [key for key in set(ours) | set(theirs) if ours[key] != theirs[key]]
by = collections.Counter()
for row in gpu:
    kind = {"yes": "named", "no": "unknown"}[row["decoded"]]
    if row["detail"].startswith("opaque"):
        kind = "opaque"
    elif row["detail"] == "class not known":
        kind = "of an object that nobody saw made"
    by[kind] += row["calls"]
seen = next((int(line.split()[1]) for line in open(strace) if line.split()[:1] == ["ioctl"]), 0)
print(f"{name}: ioctl {total} (strace, another run {seen}), on GPUs {sum(by.values())} {dict(by)}, "
      f"reference {sum(v for k, v in theirs.items() if k[3] == 'calls')}, keys {len(theirs) // 3}, different {len(different)}, "
      f"refused {sum(row['refused'] for row in gpu)}")
for key in sorted(different, key=str)[:12]:
    print("   ", key[0], hex(key[1]), hex(key[2]), key[3], "ours", ours[key], "reference", theirs[key])
