#!/usr/bin/env bash
# Which system calls one call of CUDA's library makes (`--api`), phases that nobody marked (`--auto-phases`), and what a
# traced call costs there. Run as root on a machine with an NVIDIA GPU:
#   study/phase1/h200/api.sh FOLDER_OF_BINARIES OUTPUT_FOLDER
# FOLDER_OF_BINARIES has gpuos-trace, call_loops and baseline (`cargo xtask dist`, static) and bench.
set -u
here=$(dirname "$(realpath "$0")")
. "$here/common.sh"

cat >/tmp/unmarked.py <<'P'
# One context, a thousand allocations, a wait, and the context's end; without markers.
import ctypes, sys, time
cuda = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    assert code == 0, (name, code)
context, memory = ctypes.c_void_p(), ctypes.c_uint64()
call("cuInit", 0)
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
call("cuCtxSetCurrent", context)
time.sleep(0.1)
start = time.perf_counter()
for _ in range(1000):
    call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(4 << 20))
    call("cuMemFree_v2", memory)
print(f"{(time.perf_counter() - start) * 1e3:.1f}", file=sys.stderr)
call("cuCtxSynchronize")
call("cuDevicePrimaryCtxRelease_v2", 0)
P
cat >/tmp/resnet.py <<'P'
import torch, torchvision
model, data = torchvision.models.resnet18().cuda().eval(), torch.randn(8, 3, 224, 224, device="cuda")
with torch.no_grad():
    for _ in range(100):
        model(data); torch.cuda.synchronize()
P
for program in alloc kernel; do
    "$trace" run --strict --api --api-launches --top 0 -- "$bin/bench" $program --backend cuda --bytes 4M --iters 1000 2>"$out/$program.txt" >/dev/null
done
"$trace" run --strict --api --auto-phases --top 0 -- python3 /tmp/unmarked.py 2>"$out/unmarked.txt"
"$trace" run --strict --api --auto-phases --top 0 -- python3 /tmp/resnet.py 2>"$out/resnet.txt"
"$trace" run --strict --auto-phases --top 0 -- python3 /tmp/unmarked.py 2>"$out/inferred.txt"
for run in alloc kernel unmarked resnet inferred; do
    echo "== $run"; grep -e '^exit status' -e LOST "$out/$run.txt"
    sed -n '/^ phase /,/^$/p' "$out/$run.txt" | cut -c1-150
    sed -n '/^ library function/,/^$/p' "$out/$run.txt" | head -24 | cut -c1-190
done
for round in 1 2 3; do
    bare=$(python3 /tmp/unmarked.py 2>&1); counted=$("$trace" run -q -- python3 /tmp/unmarked.py 2>&1)
    api=$("$trace" run -q --api -- python3 /tmp/unmarked.py 2>&1)
    echo "1,000 pairs of cuMemAlloc and cuMemFree, ms: $bare bare, $counted under run, $api under run --api"
done
"$here/loops.sh" "$bin" "$out"
sed -i "s|$bin/||g" "$out"/*.txt
