#!/usr/bin/env bash
# How long calls of the stacks without a GPU take, `bench api` of each:
#   HIP_CPU_ROOT=… study/phase1/timings.sh OUTPUT
set -eu
here=$(dirname "$(realpath "$0")")
cd "$here/../.."
cargo build --release --package gpuos-workloads --all-features
cargo xtask hip-cpu
target=${CARGO_TARGET_DIR:-target}/release
mkdir -p "$1"
for backend in opencl vulkan hip-cpu; do
    "$target/bench" api --backend "$backend" --bytes 1M --iters 200 >"$1/api-$backend.txt"
done
{
    uname -srm
    sed -n 's/^model name\s*: //p' /proc/cpuinfo | sort | uniq -c
} >"$1/environment.txt"
