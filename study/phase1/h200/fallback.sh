#!/usr/bin/env bash
# The same programs with the kernel's type information and without: `n-*.csv`, and `f-*.csv` with /sys/kernel/btf hidden
# in a mount namespace of their own. Run as root on a machine with an NVIDIA GPU:
#   study/phase1/h200/fallback.sh FOLDER_OF_BINARIES OUTPUT_FOLDER
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`) and bench.
set -u
here=$(dirname "$(realpath "$0")")
. "$here/common.sh"

for model in alloc kernel; do
    traced() {
        "$trace" run --quiet -o "$out/$1-$model.csv" -- "$bin/bench" $model --backend cuda --bytes 4M --iters 1000
    }
    traced n
    (export -f traced; export trace bin out model; unshare -m bash -c 'mount -t tmpfs none /sys/kernel/btf && traced f')
done
sed -i "s|$bin/||g" "$out"/*.csv
