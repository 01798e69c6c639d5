#!/usr/bin/env bash
# ResNet-18 and MiniLM on ONNX Runtime's CUDA provider: runs of `bench infer`, one of each traced, and
# `study/phase1/plans/inference.toml`. Run as root on a machine with an NVIDIA GPU, CUDA 13 and cuDNN 9 in LD_LIBRARY_PATH:
#   ORT_DYLIB_PATH=…/libonnxruntime.so study/phase1/h200/inference.sh FOLDER_OF_BINARIES DATASET OUTPUT_FOLDER [SECONDS]
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`) and bench (`cargo build --release -p gpuos-workloads --features
# infer`), and beside them the folder `models` that `cargo xtask models` fetches. ORT_DYLIB_PATH is of PyPI's
# onnxruntime-gpu 1.31.1, with its libonnxruntime_providers_*.so beside it. With SECONDS the sweep is cut off; `sweep.sh
# FOLDER_OF_BINARIES DATASET OUTPUT_FOLDER SECONDS inference` goes on.
set -u
here=$(dirname "$(realpath "$0")")
data=$2 seconds=${4-3600}
set -- "$1" "$3"
. "$here/common.sh"

for model in resnet18 minilm; do
    for batch in 1 8; do
        "$bin/bench" infer --model $model --backend cuda --batch $batch --iters 300 --json >"$out/$model-cuda-$batch.json"
    done
    "$bin/bench" infer --model $model --backend cpu --iters 100 --json >"$out/$model-cpu.json"
    "$trace" run --quiet --strict --output "$out/$model.csv" -- "$bin/bench" infer --model $model --backend cuda --iters 300
    "$trace" show "$out/$model.csv" >"$out/$model.txt"
done
sed -i "s|$bin/||g; s|$(dirname "$ORT_DYLIB_PATH")/||g" "$out"/*.json "$out"/*.csv "$out"/*.txt
"$here/sweep.sh" "$bin" "$data" "$out" "$seconds" inference
