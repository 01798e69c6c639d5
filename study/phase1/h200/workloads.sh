#!/usr/bin/env bash
# Every model and option of `bench` on CUDA: what it asks of the kernel, and how long it takes without the tracer. Cells
# are run in blocks, each block in another order. Run as root on a machine with an NVIDIA GPU:
#   study/phase1/h200/workloads.sh FOLDER_OF_BINARIES OUTPUT_FOLDER [SECONDS [KNOWN]]
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`) and bench. Cells that KNOWN, another runs.csv, has are left out.
set -u
here=$(dirname "$(realpath "$0")")
seconds=${3:-520} known=${4-}
set -- "$1" "$2"
. "$here/common.sh"

"$bin/bench" --list >"$out/list.txt" 2>&1
for bytes in 4K 1M 64M; do
    "$bin/bench" api --backend cuda --bytes $bytes --iters 200
    echo
done >"$out/api.txt" 2>&1
"$trace" run --strict --api --api-launches --top 0 -- "$bin/bench" api --backend cuda --bytes 4M --iters 200 2>"$out/api-calls.txt" >/dev/null
sed -i "s|$bin/||g" "$out"/*.txt
python3 "$here/workloads.py" measure "$bin" "$out" "$seconds" $known
python3 "$here/workloads.py" tables "$out" | tee "$out/tables.txt"
