"""Reads the rows of a run that gpuos-trace wrote as CSV; numbers as numbers."""
import csv

TEXT = {"command", "phase", "abi", "syscall", "device", "ioctl", "detail", "decoded", "category", "role", "status", "latency_log2"}


def rows_of(path):
    with open(path) as file:
        lines = [line for line in file if not line.startswith("#")]
    return [{key: value if key in TEXT else int(value) for key, value in row.items()} for row in csv.DictReader(lines)]
