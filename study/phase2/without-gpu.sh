#!/usr/bin/env bash
# `study/phase2/plans/without-gpu.toml`:
#   HIP_CPU_ROOT=… study/phase2/without-gpu.sh DATASET OUTPUT
# HIP_CPU_ROOT is a checkout of ROCm/HIP-CPU. As root; everything else is built. Some five minutes on two cores.
set -eu
here=$(dirname "$(realpath "$0")")
cd "$here/../.."
cargo build --release --package gpuos-trace
cargo build --release --package gpuos-workloads --all-features
cargo xtask hip-cpu
target=${CARGO_TARGET_DIR:-target}/release
"$target/gpuos-trace" sweep "$here/plans/without-gpu.toml" -o "$1" --resume --limit 120
mkdir -p "$2"
tar -C "$1" -czf "$2/dataset.tar.gz" .
