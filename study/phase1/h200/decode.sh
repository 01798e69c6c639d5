#!/usr/bin/env bash
# Decoded ioctls of CUDA programs beside an independent reference counter (oracle.c) and strace, on a machine with an NVIDIA
# GPU. Run as root:
#   study/phase1/h200/decode.sh FOLDER_OF_BINARIES OUTPUT_FOLDER [STRACE_LIBRARY_FOLDER]
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`), bench, strace and oracle.so. The folders are left out of what is kept.
set -u
here=$(dirname "$(realpath "$0")")
. "$here/common.sh"

cat >/tmp/models.py <<'P'
import sys, torch
kind, steps = sys.argv[1], int(sys.argv[2])
if kind == "resnet18":
    import torchvision
    model, data = torchvision.models.resnet18().cuda().eval(), torch.randn(8, 3, 224, 224, device="cuda")
else:
    layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    model, data = torch.nn.TransformerEncoder(layer, 4).cuda().eval(), torch.randn(8, 128, 256, device="cuda")
with torch.no_grad():
    for _ in range(steps):
        model(data)
        torch.cuda.synchronize()
P
# What is printed is kept, too.
exec > >(tee "$out/summary.txt")
"$bin/bench" kernel --backend cuda --iters 10 >/dev/null 2>&1
for kind in resnet18 transformer; do python3 /tmp/models.py $kind 3; done
"$trace" check --json >"$out/check.json" 2>/dev/null
run() {
    local name=$1
    shift
    rm -f "/tmp/$name.oracle"
    # The reference counter is inside the traced program: both see the same calls.
    ORACLE="/tmp/$name.oracle" "$trace" run --strict --top 25 -o "$out/$name.csv" -- env LD_PRELOAD="$bin/oracle.so" "$@" \
        >/dev/null 2>"$out/$name.txt" || echo "trace of $name failed: $?"
    cp "/tmp/$name.oracle" "$out/$name.oracle"
    under_strace "$out/$name.strace" "$@" >/dev/null
    python3 "$here/compare.py" "$name" "$out/$name.csv" "$out/$name.oracle" "$out/$name.strace"
}
# Calls that the driver refuses by its status, with a return value of 0.
"$trace" run -q --strict -o "$out/statuses.csv" -- python3 "$here/statuses.py" 5 >"$out/statuses.txt"
python3 "$here/check_statuses.py" "$out/statuses.txt" "$out/statuses.csv"
run alloc-0 "$bin/bench" alloc --backend cuda --bytes 4M --iters 0
run alloc-1000 "$bin/bench" alloc --backend cuda --bytes 4M --iters 1000
run kernel-1000 "$bin/bench" kernel --backend cuda --bytes 4M --iters 1000
# OpenCL and Vulkan take their memory by other calls: the video heap's.
for backend in opencl vulkan; do
    if "$bin/bench" --list 2>&1 | grep -q "^ $backend .*NVIDIA"; then
        for model in alloc kernel copy; do
            run "$model-$backend" "$bin/bench" $model --backend $backend --bytes 1M --iters 200
        done
    else
        echo "$backend is not NVIDIA's here"
    fi
done
run resnet18 python3 /tmp/models.py resnet18 50
run transformer python3 /tmp/models.py transformer 50
# Every other way of counting sees as many.
for options in "--no-latency" "-e ioctl" "--sample 10" "--per-thread" "--tasks-by-id"; do
    "$trace" run -q --strict $options -o /tmp/way.csv -- "$bin/bench" alloc --backend cuda --bytes 4M --iters 1000 >/dev/null
    echo "alloc-1000 $options: $(python3 "$here/count.py" /tmp/way.csv)"
done
# Attached in the middle, from its first threads on.
"$bin/bench" alloc --backend cuda --bytes 4M --iters 200000 >/dev/null &
sleep 3
timeout -s INT 3 "$trace" attach -p $! --strict -o "$out/attached.csv" 2>"$out/attached.txt" >/dev/null
kill $!
echo "attached: $(python3 "$here/count.py" "$out/attached.csv")"
sed -i "s|$bin/||g; s|$out/||g; s|$here/||g" "$out"/*.csv "$out"/*.txt
