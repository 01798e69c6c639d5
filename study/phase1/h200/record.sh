#!/usr/bin/env bash
# Recordings of CUDA programs: the events against the counts of the same run, every export, and a loop of nothing but
# system calls. Run as root on a machine with an NVIDIA GPU:
#   study/phase1/h200/record.sh FOLDER_OF_BINARIES OUTPUT_FOLDER
# FOLDER_OF_BINARIES has gpuos-trace, known_calls and call_loops (`cargo xtask dist`, static), libgpuos_nvtx.so and bench.
set -u
here=$(dirname "$(realpath "$0")")
. "$here/common.sh"

cat >/tmp/inference.py <<'P'
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
P
# What `run` prints of the counts, and what `show` finds in the events.
tables() { grep -v -e '^note: ' -e '^recorded ' -e '^$' | sed -n '/^exit status/,$p'; }
for program in alloc kernel; do
    "$trace" record --strict --sched --top 0 -o "$out/$program.parquet" -- "$bin/bench" $program --backend cuda --bytes 4M --iters 100 2>"$out/$program.txt" >/dev/null
done
"$trace" record --strict --nvtx --top 0 -o "$out/inference.parquet" -- python3 /tmp/inference.py 2>"$out/inference.txt" >/dev/null
for program in alloc kernel inference; do
    tables <"$out/$program.txt" >/tmp/counted
    "$trace" show --top 0 "$out/$program.parquet" 2>&1 | tables >/tmp/shown
    echo "$program: $(grep -c . /tmp/counted) lines of tables, $(diff /tmp/counted /tmp/shown | grep -c '^[<>]') different; $(grep '^recorded' "$out/$program.txt" | cut -d' ' -f2-6); $(grep -c LOST "$out/$program.txt") losses"
    for format in perfetto chrome speedscope folded otlp-json; do
        "$trace" export --to $format "$out/$program.parquet" -o "/tmp/$program.$format" || echo "$format FAILED"
    done
done
"$trace" export --to csv "$out/alloc.parquet" -o /tmp/alloc.csv
python3 - <<'P'
import csv, collections
rows = list(csv.DictReader(open('/tmp/alloc.csv')))
gpu = [row for row in rows if row['event'] == 'call' and row['ioctl'] and row['device'].startswith('nvidia')]
fields = [row for row in gpu if row['fields']]
print(f"alloc: {len(gpu)} ioctls on the GPU driver, {len(fields)} with fields")
without = collections.Counter((row['device'], row['ioctl']) for row in gpu if not row['fields'])
print('without fields:', ', '.join(f'{name} {count}' for (_, name), count in without.most_common(8)))
print('one of them:', next((row['ioctl'] + ' ' + row['detail'] + ': ' + row['fields'] for row in fields if 'cmd=' in row['fields']), ''))
off = [int(row['duration_ns']) for row in rows if row['event'] == 'off cpu']
print(f"off cpu: {len(off)} times, {sum(off) / 1e6:.1f} ms")
P
folded=$(sort -t' ' -k1,1 /tmp/alloc.folded | awk '{n=$NF; $NF=""; print n, $0}' | sort -rn | head -5)
echo "folded stacks of alloc, the largest:"; echo "$folded" | cut -c1-140
# Flat out.
for round in 1 2 3; do
    for prefix in "" "$trace run -q --" "$trace record -q -o /tmp/loop.parquet --"; do
        echo "getppid, ns: $($prefix "$bin/call_loops" getppid) under: $(echo "$prefix" | sed "s|$bin/||g")"
    done
done
"$trace" record --top 1 -o /tmp/flat.parquet -- "$bin/known_calls" threads 10000000 4 2>/tmp/flat.txt
grep -e '^exit status' -e LOST -e '^recorded' /tmp/flat.txt
sed -i "s|$bin/||g" "$out"/*.txt
