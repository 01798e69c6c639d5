#!/usr/bin/env bash
# Figures of jobs on one GPU: waits, an event loop, memory, by the way that a program learns of an end. A line of JSON a run into
# OUTPUT_FOLDER/lab.jsonl; runs that are there are not repeated. Run on a machine with an NVIDIA GPU:
#   study/phase3/lab.sh FOLDER_OF_BINARIES OUTPUT_FOLDER [SECONDS_A_RUN [TIMES]]
# FOLDER_OF_BINARIES has `lab` and `libgpuos_job.so` (`cargo build --release -p gpuos-job --lib --example lab`), and `gpuos-trace` for the calls of a wait, which
# are kept as OUTPUT_FOLDER/calls/*.csv; those need root.
set -u
# A stream each has a queue of its own.
export CUDA_DEVICE_MAX_CONNECTIONS=32
LD_LIBRARY_PATH=$(realpath "$1")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
lab=$(realpath "$1")/lab out=$2 seconds=${3:-0.6} times=${4:-3}
mkdir -p "$out/calls"
{
    uname -srm
    head -1 /proc/driver/nvidia/version 2>/dev/null | sed 's/  Release Build.*//'
    nproc
} >"$out/environment.txt"
touch "$out/lab.jsonl"

# MODE WAY MICROSECONDS STREAMS OPTIONS…
run() {
    local mode=$1 way=$2 us=$3 streams=$4 iters
    shift 4
    iters=$(awk -v us="$us" -v s="$seconds" 'BEGIN { n = int(s * 1e6 / us); print n < 100 ? 100 : n }')
    [ "$mode" = flight ] && iters=$((iters * streams))
    local name="$mode $way $us $streams $*" start line
    start="{\"run\":$number,\"name\":\"$name\","
    grep -qF "$start" "$out/lab.jsonl" && return
    line=$(timeout 60 "$lab" "$mode" "$way" --microseconds "$us" --streams "$streams" --iters "$iters" "$@" 2>>"$out/errors.txt") ||
        { echo "failed: $name" >>"$out/errors.txt"; return; }
    echo "$start${line#\{}" >>"$out/lab.jsonl"
}

for number in $(seq "$times"); do
    for us in 50 100 300 1000 5000; do
        for way in spin block callback job; do run wait $way $us 1; done
    done
    for way in spin block callback job; do run wait $way 1000 8; done
    for spread in 10 50; do
        for way in spin block job; do run wait $way 1000 1 --spread $spread; done
        run wait job 1000 1 --spread $spread --eager
        run wait job 1000 1 --spread $spread --eager --lateness 100
    done
    for way in spin block job; do run wait $way 1000 1 --short; done
    run wait job 1000 1 --short --eager
    for us in 100 1000; do
        for way in spin block job; do run wait $way $us 1 --neighbour; done
    done
    for case in "300 8" "1000 8" "5000 32"; do
        for way in spin callback job fd; do run flight $way $case; done
        run flight job $case --lateness 20
        run flight fd $case --lateness 20
    done
    for way in job fd; do run flight $way 300 8 --spread 50; run flight $way 300 8 --spread 50 --lateness 100; done
    for way in native job; do
        run alloc $way 1000 16 --bytes 65536
        run alloc $way 1000 16 --bytes 4194304
    done
    run switch job 100 1
done
wc -l <"$out/lab.jsonl"

trace=$(realpath "$1")/gpuos-trace
[ -x "$trace" ] || exit 0
for case in "wait spin 100" "wait block 100" "wait callback 100" "wait job 100" "wait job 1000" "wait job 5000" \
    "flight callback 300" "flight job 300" "flight fd 300"; do
    read -r mode way us <<<"$case"
    file="$out/calls/$mode-$way-$us.csv"
    streams=1
    [ "$mode" = flight ] && streams=8
    [ -s "$file" ] || timeout 60 "$trace" run --quiet --strict --per-thread -o "$file" -- "$lab" "$mode" "$way" --microseconds "$us" \
        --streams "$streams" --iters 2000 >>"$out/traced.jsonl" 2>>"$out/errors.txt" || echo "failed: $case, traced" >>"$out/errors.txt"
done
ls "$out"
