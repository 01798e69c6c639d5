#!/usr/bin/env bash
# The latency of inference with and without the tracer, in turns: PyTorch's ResNet-18 and a transformer encoder. Run as
# root on a machine with an NVIDIA GPU:
#   results/h200/inference_overhead.sh FOLDER_OF_BINARIES OUTPUT_FOLDER
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`).
set -u
here=$(dirname "$(realpath "$0")")
. "$here/common.sh"

cat >/tmp/infer.py <<'P'
import statistics, sys, time, torch, torchvision
torch.manual_seed(1)
if sys.argv[1] == "resnet18":
    model, data = torchvision.models.resnet18(), torch.randn(8, 3, 224, 224)
else:
    # The size of MiniLM-L6: 6 layers, 384 wide, 12 heads; random weights.
    layer = torch.nn.TransformerEncoderLayer(384, 12, 1536, batch_first=True)
    model, data = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), torch.randn(8, 128, 384)
model, data = model.cuda().eval(), data.cuda()
with torch.no_grad():
    for _ in range(50):
        model(data)
    torch.cuda.synchronize()
    latencies = []
    for _ in range(1000):
        start = time.perf_counter_ns()
        model(data); torch.cuda.synchronize()
        latencies.append(time.perf_counter_ns() - start)
print(statistics.median(latencies))
P
echo "model,round,mode,median_ns" >"$out/latencies.csv"
measure() { # model round mode prefix…
    local model=$1 round=$2 mode=$3; shift 3
    echo "$model,$round,$mode,$("$@" python3 /tmp/infer.py "$model" 2>/dev/null)" >>"$out/latencies.csv"
}
end=$((SECONDS + 460))
for round in $(seq 1 30); do
    for model in resnet18 transformer; do
        [ $SECONDS -ge $end ] && break 2
        # The order of the two changes with the rounds.
        if [ $((round % 2)) = 0 ]; then
            measure $model $round bare env; measure $model $round run "$trace" run -q --
        else
            measure $model $round run "$trace" run -q --; measure $model $round bare env
        fi
    done
done
python3 "$here/inference_overhead.py" "$out/latencies.csv" | tee "$out/ratios.txt"
