#!/usr/bin/env bash
# `study/phase1/plans/without-gpu.toml` and its report:
#   study/phase1/without-gpu/sweep.sh HIP_CPU_FOLDER DATASET OUTPUT
# HIP_CPU_FOLDER is a checkout of ROCm/HIP-CPU. As root; everything else is built or fetched.
set -eu
here=$(dirname "$(realpath "$0")")/../../..
cd "$here"
cargo build --release --package gpuos-trace
cargo build --release --package gpuos-workloads --all-features
HIP_CPU_ROOT=$1 cargo xtask hip-cpu
cargo xtask models
target=${CARGO_TARGET_DIR:-target}/release
"$target/gpuos-trace" sweep study/phase1/plans/without-gpu.toml -o "$2" --resume --limit 120
"$target/gpuos-trace" report "$2" -o "$3"
tar -C "$2" -czf "$3/dataset.tar.gz" .
