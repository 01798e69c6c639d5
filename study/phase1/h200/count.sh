#!/usr/bin/env bash
# Counts of CUDA programs beside strace's, on a machine with an NVIDIA GPU. Run as root:
#   study/phase1/h200/count.sh FOLDER_OF_BINARIES OUTPUT_FOLDER [STRACE_LIBRARY_FOLDER]
# FOLDER_OF_BINARIES has gpuos-trace, bench and strace.
set -u
. "$(dirname "$(realpath "$0")")/common.sh"

cat >/tmp/resnet.py <<'P'
import sys, time, torch, torchvision
model = torchvision.models.resnet18().cuda().eval()
batch = torch.randn(8, 3, 224, 224, device="cuda")
times = []
with torch.no_grad():
    for step in range(int(sys.argv[1]) + 20):
        start = time.perf_counter()
        model(batch)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
times = sorted(times[20:])
print(f"{times[len(times) // 2] * 1e3:.4f}")
P

"$bin/bench" kernel --backend cuda --iters 10 >/dev/null 2>&1 # caches
"$trace" check --json >"$out/check.json" 2>/dev/null
for model in alloc kernel; do
    for iters in 0 1000; do
        words="$bin/bench $model --backend cuda --bytes 4M --iters $iters"
        "$trace" run -q --strict -o "$out/$model-$iters.json" -- $words >/dev/null || echo "trace of $words failed: $?"
        under_strace "$out/$model-$iters.strace" $words >/dev/null
        ours=$(python3 -c 'import json,sys; print(sum(r["calls"] for r in json.load(open(sys.argv[1]))["calls"] if r["syscall"] == "ioctl"))' "$out/$model-$iters.json")
        theirs=$(awk '$1 == "ioctl" { print $2 }' "$out/$model-$iters.strace")
        echo "$model, $iters iterations: ioctl $ours, strace $theirs"
    done
done
[ "${COUNTS_ONLY-}" ] && exit
python3 /tmp/resnet.py 50 >/dev/null
"$trace" run -q --strict -o "$out/resnet18.json" -- python3 /tmp/resnet.py 200 >/dev/null
under_strace "$out/resnet18.strace" python3 /tmp/resnet.py 20 >/dev/null
# Median milliseconds a batch, with and without, in turns.
for round in 1 2 3 4 5 6 7 8; do
    echo "$round $(python3 /tmp/resnet.py 300) $("$trace" run -q -- python3 /tmp/resnet.py 300)"
done | tee "$out/resnet18-latency.txt"
