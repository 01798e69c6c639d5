#!/usr/bin/env bash
# ONNX Runtime through the interposer: processes of `bench infer` with its waits as jobs and as the driver's own, in turns. Run from
# the root of the repository on a machine with an NVIDIA GPU, CUDA 13 and cuDNN 9 in LD_LIBRARY_PATH:
#   ORT_DYLIB_PATH=…/libonnxruntime.so study/phase3/onnx.sh FOLDER OUTPUT_FOLDER [TIMES]
# FOLDER has `bench` (`cargo build --release -p gpuos-workloads --features infer`), `models` beside it (`cargo xtask models`) and
# libgpuos_job_preload.so. ORT_DYLIB_PATH is of PyPI's onnxruntime-gpu 1.31.1. A file a process, and OUTPUT_FOLDER/onnx.jsonl of all;
# `bench` compares what a model gives with PyTorch's, and refuses what is different.
set -u
bin=$(realpath "$1") out=$2 times=${3:-8}
mkdir -p "$out"

# MODEL BATCH ITERATIONS ARM: one process, kept under its name when it is whole.
process() {
    local file="$out/onnx-$1-$2-$4-$number.json" preload=
    [ -s "$file" ] && return
    [ "$4" = jobs ] && preload=$bin/libgpuos_job_preload.so
    LD_PRELOAD=$preload GPUOS_JOBS_STATS=1 timeout 60 "$bin/bench" infer --model "$1" --backend cuda --batch "$2" --iters "$3" \
        --warmup 30 --json >"$file.part" 2>"$out/onnx-$1-$2-$4.log" && mv "$file.part" "$file"
    tail -n 1 "$out/onnx-$1-$2-$4.log" | cut -c1-200
}

for number in $(seq "$times"); do
    for case in "resnet18 64 300" "resnet18 1 1000" "distilbert 64 150"; do
        # The first of a pair now this and now that.
        arms="native jobs"
        [ $((number % 2)) = 0 ] && arms="jobs native"
        for arm in $arms; do process $case $arm; done
    done
done
python3 study/phase3/onnx_pairs.py "$out"
