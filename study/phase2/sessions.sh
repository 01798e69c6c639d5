#!/usr/bin/env bash
# What real models ask for: `session.py` with the tracer and without, waiting as the runtime does and asleep, several times; JAX
# three times at most. Run from the root of the repository as root on a machine with a GPU, PyTorch, torchvision, transformers and JAX:
#   study/phase2/sessions.sh FOLDER_OF_BINARIES OUTPUT_FOLDER [TIMES [DEVICE]]
# Sessions that are there already are kept: run it again to go on.
set -u
trace=$(realpath "$1")/gpuos-trace out=$2 times=${3:-5} device=${4:-cuda}
mkdir -p "$out"
export XLA_PYTHON_CLIENT_PREALLOCATE=false TF_CPP_MIN_LOG_LEVEL=3
python=(python3 study/phase2/session.py --device "$device")
{
    uname -srm
    head -1 /proc/driver/nvidia/version 2>/dev/null | sed 's/  Release Build.*//'
    nproc
    python3 -c 'import torch, transformers, jax; print("torch", torch.__version__, "cuda", torch.version.cuda, "transformers", transformers.__version__, "jax", jax.__version__)'
    "$trace" --version
} >"$out/environment.txt" 2>&1

# NAME ARGUMENTS…: one session without the tracer and one with it, each kept under its name when it is whole.
session() {
    local name=$out/$1
    shift
    [ -s "$name.bare.jsonl" ] || { "${python[@]}" "$@" >"$name.part" 2>"$name.log" && mv "$name.part" "$name.bare.jsonl"; }
    [ -s "$name.traced.jsonl" ] || {
        "$trace" run --quiet --strict --per-thread -o "$name.parquet" -- "${python[@]}" "$@" >"$name.part" 2>"$name.log" &&
            mv "$name.part" "$name.traced.jsonl"
    }
    tail -n 1 "$name.log" | cut -c1-200
}

for number in $(seq "$times"); do
    for wait in default block; do
        [ "$device" = cpu ] && [ $wait = block ] && continue
        session "torch-$wait-$number" --wait $wait
    done
    [ "$number" -le 3 ] && session "jax-default-$number" --cells jax-step
done
rm -f "$out"/*.part
ls "$out" | wc -l
