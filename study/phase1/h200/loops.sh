#!/usr/bin/env bash
# What a traced call costs, nanoseconds by call_loops in turns, and what starting costs. Run as root:
#   study/phase1/h200/loops.sh FOLDER_OF_BINARIES OUTPUT_FOLDER
# FOLDER_OF_BINARIES has gpuos-trace, call_loops and baseline.
set -u
bin=$(realpath "$1") out=$(realpath "$2") trace="$(realpath "$1")/gpuos-trace"
for round in 1 2 3 4 5 6 7 8 9; do
    line="getppid, ns:"
    for prefix in "" "$bin/baseline nothing" "$bin/baseline storage" "$trace run -q --" "$trace run -q --no-latency --" "$trace run -q -e ioctl --"; do
        line+=" $($prefix "$bin/call_loops" getppid)"
    done
    echo "$line; ioctl: $("$bin/call_loops" ioctl) $("$trace" run -q -- "$bin/call_loops" ioctl); marker: $("$bin/call_loops" marker) $("$trace" run -q -- "$bin/call_loops" marker)"
done | tee "$out/loops.txt"
for round in 1 2 3 4 5; do
    a=$(date +%s%N); true; /bin/true; b=$(date +%s%N); "$trace" run -q -- /bin/true; c=$(date +%s%N)
    echo "run -- true: $(( (c - b - (b - a)) / 1000000 )) ms over true"
done | tee -a "$out/loops.txt"
