#!/usr/bin/env bash
# `study/phase1/plans/complexity.toml`:
#   study/phase1/complexity.sh DATASET OUTPUT
# As root; everything is built or fetched. Some ten minutes on two cores.
set -eu
here=$(dirname "$(realpath "$0")")
cd "$here/../.."
cargo build --release --package gpuos-trace
cargo build --release --package gpuos-workloads --all-features
cargo xtask models
target=${CARGO_TARGET_DIR:-target}/release
"$target/gpuos-trace" sweep "$here/plans/complexity.toml" -o "$1" --resume --limit 300
mkdir -p "$2"
tar -C "$1" -czf "$2/dataset.tar.gz" .
