#!/usr/bin/env bash
# What several GPUs ask for: `ranks.py` with the tracer and without, by 1, 2, 4, … ranks, as many as there are GPUs, several times.
# Run from the root of the repository as root on a machine with several GPUs, PyTorch and torchvision:
#   study/phase2/ranks.sh FOLDER_OF_BINARIES OUTPUT_FOLDER [TIMES [MOST_RANKS]]
# What is there already is kept: run it again to go on.
set -u
trace=$(realpath "$1")/gpuos-trace out=$2 times=${3:-3} most=${4:-$(nvidia-smi --list-gpus | wc -l)}
mkdir -p "$out"
{
    uname -srm
    head -1 /proc/driver/nvidia/version 2>/dev/null | sed 's/  Release Build.*//'
    nproc
    python3 -c 'import torch; print("torch", torch.__version__, "nccl", torch.cuda.nccl.version(), "GPUs", torch.cuda.device_count())'
} >"$out/environment-nccl.txt" 2>&1
cells=(all-reduce all-gather send tensor-parallel ddp fsdp)
port=29500

# NAME ARGUMENTS…: one run without the tracer and one with it, each kept under its name when it is whole.
session() {
    local name=$out/$1
    shift
    port=$((port + 2))
    [ -s "$name.bare.jsonl" ] || {
        timeout 120 python3 study/phase2/ranks.py --port $port "$@" >"$name.part" 2>"$name.log" && mv "$name.part" "$name.bare.jsonl"
    }
    [ -s "$name.traced.jsonl" ] || {
        timeout 120 "$trace" run --quiet --strict --per-thread -o "$name.parquet" -- \
            python3 study/phase2/ranks.py --port $((port + 1)) "$@" >"$name.part" 2>"$name.log" && mv "$name.part" "$name.traced.jsonl"
    }
    tail -n 1 "$name.log" | cut -c1-200
}

for number in $(seq "$times"); do
    for ((ranks = most; ranks >= 1; ranks /= 2)); do
        session "nccl-$ranks-$number" --ranks $ranks --cells "${cells[@]}"
        [ "$ranks" = 2 ] && session "peer-$number" --cells peer ipc
    done
done
rm -f "$out"/*.part
ls "$out" | wc -l
