#!/usr/bin/env bash
# Whether inference is slowed by the tracer, as a test of equivalence (equivalence.py): three models, many processes, on every
# GPU of the machine at once. Run as root on a machine with NVIDIA GPUs:
#   study/phase1/h200/equivalence.sh FOLDER_OF_BINARIES OUTPUT_FOLDER
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`). FIRST=N goes on from the Nth process.
set -u
here=$(dirname "$(realpath "$0")")
. "$here/common.sh"

end=$((SECONDS + ${SECONDS_IN_ALL:-500}))
of_gpu() {
    local gpu=$1 gpus=$2 process
    for process in $(seq $((${FIRST:-1} + gpu)) "$gpus" 1000); do
        for model in resnet18 minilm transformer; do
            [ $SECONDS -ge $end ] && return
            CUDA_VISIBLE_DEVICES=$gpu python3 "$here/equivalence.py" measure $model "$process" "$trace" 20 2>>"$out/errors.txt"
        done
    done
}
gpus=$(nvidia-smi -L | wc -l)
for gpu in $(seq 0 $((gpus - 1))); do
    of_gpu "$gpu" "$gpus" >"$out/latencies.$gpu" &
done
wait
{
    echo "model,process,pair,kind,place,mode,median_ns"
    cat "$out"/latencies.[0-9]
} >"$out/latencies.csv"
rm "$out"/latencies.[0-9]
python3 "$here/equivalence.py" test "$out/latencies.csv" | tee "$out/equivalence.txt"
