#!/usr/bin/env bash
# The latency of inference with and without the tracer: PyTorch's ResNet-18 and a transformer encoder. In each process
# the tracer attaches and detaches again and again, so that what differs between processes is not in the ratio. Run as
# root on a machine with an NVIDIA GPU:
#   study/phase1/h200/inference_overhead.sh FOLDER_OF_BINARIES OUTPUT_FOLDER
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`).
set -u
here=$(dirname "$(realpath "$0")")
. "$here/common.sh"

echo "model,process,pair,mode,median_ns" >"$out/latencies.csv"
end=$((SECONDS + 500))
for process in $(seq "${FIRST:-1}" $((${FIRST:-1} + 19))); do
    for model in ${MODELS:-resnet18 transformer}; do
        [ $SECONDS -ge $end ] && break 2
        python3 "$here/inference_overhead.py" measure $model $process "$trace" 25 >>"$out/latencies.csv" 2>>"$out/errors.txt"
    done
done
python3 "$here/inference_overhead.py" ratios "$out/latencies.csv" | tee "$out/ratios.txt"
