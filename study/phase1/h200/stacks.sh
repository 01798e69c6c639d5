#!/usr/bin/env bash
# CUDA, OpenCL and Vulkan on one GPU: how long each call takes, which system calls it makes, a traced run of each model,
# and `study/phase1/plans/one-gpu.toml`. Run as root on a machine with an NVIDIA GPU:
#   study/phase1/h200/stacks.sh FOLDER_OF_BINARIES DATASET OUTPUT_FOLDER [SECONDS]
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`) and bench (`cargo build --release -p gpuos-workloads --features
# wgpu`). Vulkan's loader and the driver's file for it are found by LD_LIBRARY_PATH and VK_DRIVER_FILES. With SECONDS the
# sweep is cut off; `sweep.sh FOLDER_OF_BINARIES DATASET OUTPUT_FOLDER SECONDS one-gpu` goes on.
set -u
here=$(dirname "$(realpath "$0")")
data=$2 seconds=${4-3600}
set -- "$1" "$3"
. "$here/common.sh"

"$bin/bench" --list >"$out/list.txt" 2>&1
for backend in opencl vulkan; do
    grep "^ $backend .*NVIDIA" "$out/list.txt" || { echo "$backend is not NVIDIA's here: $out/list.txt" >&2; exit 1; }
done
for backend in cuda opencl vulkan; do
    "$bin/bench" api --backend $backend --bytes 1M --iters 200 >"$out/api-$backend.txt" 2>&1
    # Vulkan's functions are no symbols of its library.
    functions=--api
    [ $backend = vulkan ] && functions=
    "$trace" run --strict --top 0 $functions -- "$bin/bench" api --backend $backend --bytes 1M --iters 200 2>"$out/api-calls-$backend.txt" >/dev/null
    for model in alloc kernel copy; do
        "$trace" run --quiet --strict -o "$out/$model-$backend.csv" -- "$bin/bench" $model --backend $backend --bytes 1M --iters 1000 >"$out/$model-$backend.latency.txt" 2>&1
        "$trace" show "$out/$model-$backend.csv" >"$out/$model-$backend.txt"
    done
done
sed -i "s|$bin/||g" "$out"/*.txt "$out"/*.csv
"$here/sweep.sh" "$bin" "$data" "$out" "$seconds" one-gpu
