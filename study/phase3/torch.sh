#!/usr/bin/env bash
# Unmodified PyTorch through jobs, beside the driver's own waits and `cudaDeviceScheduleBlockingSync`. Run from the root of the
# repository on a machine with an NVIDIA GPU, PyTorch and torchvision:
#   study/phase3/torch.sh FOLDER_OF_LIBRARIES OUTPUT_FOLDER
# FOLDER_OF_LIBRARIES has libgpuos_job_preload.so (`cargo build --release -p gpuos-job-preload`).
set -u
preload=$(realpath "$1")/libgpuos_job_preload.so out=$2
mkdir -p "$out"
for case in "graph 64" "graph 64 --blocking" "graph 8" "graph 1" "eval 256" "eval 256 --blocking" "eval 64" "eval 1" \
    "train 64" "train 64 --blocking" "streams 16"; do
    file="$out/torch-${case// /-}.jsonl"
    [ -s "$file" ] && continue
    LD_PRELOAD=$preload GPUOS_JOBS_STATS=1 python3 study/phase3/torch_loop.py $case >"$file.part" 2>"${file%.jsonl}.log" &&
        mv "$file.part" "$file"
    tail -n 2 "${file%.jsonl}.log"
done
cat "$out"/torch-*.jsonl
