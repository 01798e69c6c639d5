#!/usr/bin/env bash
# What CUDA programs ask of the system by phase, and the live view's words, on a machine with an NVIDIA GPU. Run as root:
#   study/phase1/h200/phases.sh FOLDER_OF_BINARIES OUTPUT_FOLDER
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`), libgpuos_nvtx.so (`cargo build --release -p gpuos-nvtx`) and bench.
set -u
here=$(dirname "$(realpath "$0")")
. "$here/common.sh"

cat >/tmp/ranges.py <<'P'
import torch, torchvision
model, data = torchvision.models.resnet18().cuda().eval(), torch.randn(8, 3, 224, 224, device="cuda")
nvtx = torch.cuda.nvtx
with torch.no_grad():
    nvtx.range_push("first batch")
    model(data); torch.cuda.synchronize()
    nvtx.range_pop()
    nvtx.range_push("batches")
    for _ in range(50):
        model(data); torch.cuda.synchronize()
    nvtx.range_pop()
    nvtx.range_push("allocate")
    buffers = [torch.empty(64 << 20, dtype=torch.uint8, device="cuda") for _ in range(20)]
    nvtx.range_pop()
P
cat >/tmp/emitted.py <<'P'
import torch, torchvision
model, data = torchvision.models.resnet18().cuda().eval(), torch.randn(8, 3, 224, 224, device="cuda")
with torch.no_grad(), torch.autograd.profiler.emit_nvtx():
    for _ in range(3):
        model(data); torch.cuda.synchronize()
P
cat >/tmp/spinning.py <<'P'
import torch
a = torch.randn(16384, 16384, device="cuda")
with torch.no_grad():
    for _ in range(6):
        for _ in range(12):
            b = a @ a
        torch.cuda.synchronize()
P
for model in alloc kernel; do
    "$trace" run --strict --top 12 -o "$out/phases-$model.csv" -- "$bin/bench" $model --backend cuda --bytes 4M --iters 1000 2>"$out/phases-$model.txt" >/dev/null
done
"$trace" run --strict --nvtx --top 12 -o "$out/nvtx-ranges.csv" -- python3 /tmp/ranges.py 2>"$out/nvtx-ranges.txt" >/dev/null
"$trace" run --nvtx --top 4 -- python3 /tmp/emitted.py 2>"$out/nvtx-emitted.txt" >/dev/null
"$trace" run --live --top 4 -- python3 /tmp/spinning.py 2>"$out/live.txt" >/dev/null
# All processes of the machine that have the GPU open.
python3 /tmp/spinning.py >/dev/null &
sleep 6
timeout -s INT 4 "$trace" top >"$out/top.txt" 2>&1
wait
sed -i "s|$bin/||g" "$out"/*.csv "$out"/*.txt
grep -h -A7 "^ phase" "$out"/phases-*.txt "$out/nvtx-ranges.txt" | cut -c1-150
tail -n 3 "$out/nvtx-emitted.txt" | cut -c1-150
grep -c SPINS "$out/live.txt"
tail -n 2 "$out/top.txt"
