"""Compares what statuses.py printed with what the tracer counted while it ran; prints one line."""
import collections, sys

from run_file import rows_of

printed, run = sys.argv[1:]
theirs = collections.Counter()
for line in open(printed):
    device, number, detail, result, status = line.split()
    key = (device, int(number, 16), int(detail, 16))
    theirs[key + ("calls",)] += 1
    theirs[key + ("errors",)] += int(result) < 0
    theirs[key + ("refused",)] += int(status, 16) != 0
ours = collections.Counter()
names = {}
for row in rows_of(run):
    if row["syscall"] != "ioctl" or not row["decoded"]:
        continue
    # The class of a freed object is the tracer's own knowledge.
    free = row["ioctl_number"] == 0xC0104629
    key = (row["device"], row["ioctl_number"], 0 if free else row["detail_number"])
    for column in ("calls", "errors", "refused"):
        ours[key + (column,)] += row[column]
    if row["refused"]:
        names[row["ioctl"] + " " + row["detail"]] = row["status"]
different = {key for key in set(ours) | set(theirs) if ours[key] != theirs[key]}
print(f"statuses: {sum(v for k, v in theirs.items() if k[3] == 'calls')} calls, "
      f"{sum(v for k, v in theirs.items() if k[3] == 'refused')} refused, different {len(different)}")
for key in sorted(different):
    print("   ", key[0], hex(key[1]), hex(key[2]), key[3], "ours", ours[key], "theirs", theirs[key])
for name, status in sorted(names.items()):
    print("   ", name, "->", status)
