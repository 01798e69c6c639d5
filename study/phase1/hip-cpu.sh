#!/usr/bin/env bash
# `study/phase1/plans/hip-cpu.toml`:
#   HIP_CPU_ROOT=… study/phase1/hip-cpu.sh DATASET OUTPUT
# HIP_CPU_ROOT is a checkout of ROCm/HIP-CPU. As root; everything else is built. Some ten minutes on two cores.
set -eu
here=$(dirname "$(realpath "$0")")
cd "$here/../.."
cargo build --release --package gpuos-trace
cargo build --release --package gpuos-workloads --all-features
cargo xtask hip-cpu
target=${CARGO_TARGET_DIR:-target}/release
"$target/gpuos-trace" sweep "$here/plans/hip-cpu.toml" -o "$1" --resume --limit 120
mkdir -p "$2"
tar -C "$1" -czf "$2/dataset.tar.gz" .
