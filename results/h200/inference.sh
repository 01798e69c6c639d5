#!/usr/bin/env bash
# ResNet-18 on ONNX Runtime's CUDA provider: three runs of `bench infer`, one of them traced, and `plans/inference.toml`.
# Run as root on a machine with an NVIDIA GPU, CUDA 13 and cuDNN 9 in LD_LIBRARY_PATH:
#   ORT_DYLIB_PATH=…/libonnxruntime.so results/h200/inference.sh FOLDER_OF_BINARIES OUTPUT_FOLDER [SECONDS]
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`) and bench (`cargo build --release -p gpuos-workloads --features
# infer`). ORT_DYLIB_PATH is of PyPI's onnxruntime-gpu 1.31.1, with its libonnxruntime_providers_*.so beside it.
set -u
here=$(dirname "$(realpath "$0")")
bench=$1/bench tracer=$1/gpuos-trace out=$2
mkdir -p "$out"
for batch in 1 8; do
    "$bench" infer --model resnet18 --backend cuda --batch $batch --iters 300 --json > "$out/infer-cuda-$batch.json"
done
"$bench" infer --model resnet18 --backend cpu --iters 100 --json > "$out/infer-cpu.json"
"$tracer" run --quiet --output "$out/resnet18.csv" -- "$bench" infer --model resnet18 --backend cuda --iters 300
"$tracer" show "$out/resnet18.csv" > "$out/resnet18.txt"
dataset=$(mktemp -d)
timeout "${3:-3600}" "$tracer" sweep "$here/../../plans/inference.toml" -o "$dataset" --resume --bench "$bench"
tar -C "$dataset" -czf "$out/dataset.tar.gz" .
"$tracer" report "$dataset" -o "$out"
