#!/usr/bin/env bash
# Unmodified programs through jobs (PyTorch, transformers, CuPy, JAX), beside the driver's own waits and
# `cudaDeviceScheduleBlockingSync`. Run from the root of the repository on a machine with an NVIDIA GPU and those frameworks:
#   study/phase3/unmodified.sh FOLDER_OF_LIBRARIES OUTPUT_FOLDER
# FOLDER_OF_LIBRARIES has libgpuos_job_preload.so (`cargo build --release -p gpuos-job-preload`). What is there is not run again.
set -u
preload=$(realpath "$1")/libgpuos_job_preload.so out=$2
mkdir -p "$out"

# NAME ARGUMENTS…: a program with the library, kept under its name when it is whole.
arms() {
    local file="$out/$1.jsonl"
    shift
    [ -s "$file" ] && return
    LD_PRELOAD=$preload GPUOS_JOBS_STATS=1 timeout 120 "$@" >"$file.part" 2>"${file%.jsonl}.log" && mv "$file.part" "$file"
    tail -n 1 "${file%.jsonl}.log" | cut -c1-200
}

for case in "graph 64" "eval 256" "train 128" "train 64"; do
    arms "torch-${case// /-}" python3 study/phase3/torch_loop.py $case
done
for case in "graph 64" "train 128"; do
    arms "torch-${case// /-}-blocking" python3 study/phase3/torch_loop.py $case 4 --blocking
done
# Where nothing can be gained, more rounds: what is asked is how little is lost.
for case in "eval 1" "streams 16"; do arms "torch-${case// /-}" python3 study/phase3/torch_loop.py $case 16; done
arms cupy python3 study/phase3/frameworks.py cupy
arms torch-eval-256-blocking python3 study/phase3/torch_loop.py eval 256 4 --blocking
arms jax python3 study/phase3/frameworks.py jax
for case in generate batching; do arms "serve-$case" python3 study/phase3/serve.py $case; done
arms sanitized compute-sanitizer --print-level warn python3 study/phase3/frameworks.py cupy 1 --turn 20
for case in "graph 1" "graph 8" "eval 64"; do arms "torch-${case// /-}" python3 study/phase3/torch_loop.py $case 4; done
cat "$out"/*.jsonl
