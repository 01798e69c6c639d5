#!/usr/bin/env bash
# A sweep of a plan that needs no GPU, and its dataset as one file:
#   study/sweep.sh PLAN.toml DATASET OUTPUT
# As root; everything is built or fetched. HIP_CPU_ROOT is a checkout of ROCm/HIP-CPU, where the plan has that backend.
set -eu
cd "$(dirname "$(realpath "$0")")/.."
cargo build --release --package gpuos-trace
cargo build --release --package gpuos-workloads --all-features
[ -z "${HIP_CPU_ROOT-}" ] || cargo xtask hip-cpu
cargo xtask models
"${CARGO_TARGET_DIR:-target}/release/gpuos-trace" sweep "$1" -o "$2" --resume --limit 300
mkdir -p "$3"
tar -C "$2" -czf "$3/dataset.tar.gz" .
