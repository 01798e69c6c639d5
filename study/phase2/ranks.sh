#!/usr/bin/env bash
# What ranks of NCCL ask for: `ranks.py` with the tracer and without, several times. Run from the root of the repository as root
# on a machine with several GPUs and PyTorch:
#   study/phase2/ranks.sh FOLDER_OF_BINARIES OUTPUT_FOLDER [TIMES [RANKS]]
set -u
trace=$(realpath "$1")/gpuos-trace out=$2 times=${3:-3} ranks=${4:-2}
mkdir -p "$out"
{
    uname -srm
    head -1 /proc/driver/nvidia/version 2>/dev/null | sed 's/  Release Build.*//'
    nproc
    python3 -c 'import torch; print("torch", torch.__version__, "nccl", torch.cuda.nccl.version(), "GPUs", torch.cuda.device_count())'
} >"$out/environment-nccl.txt" 2>&1
program=(python3 study/phase2/ranks.py --ranks "$ranks")
for number in $(seq "$times"); do
    name=$out/nccl-$ranks-$number
    [ -s "$name.bare.jsonl" ] || { "${program[@]}" --port $((29500 + 2 * number)) >"$name.part" 2>"$name.log" && mv "$name.part" "$name.bare.jsonl"; }
    [ -s "$name.traced.jsonl" ] || {
        "$trace" run --quiet --strict --per-thread -o "$name.parquet" -- "${program[@]}" --port $((29501 + 2 * number)) >"$name.part" 2>"$name.log" &&
            mv "$name.part" "$name.traced.jsonl"
    }
    tail -n 1 "$name.log" | cut -c1-200
done
rm -f "$out"/*.part
ls "$out" | wc -l
