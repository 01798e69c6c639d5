"""`measure` runs cells of `bench` on CUDA with and without the tracer; `tables` says what came of them. Python alone.

A cell is the arguments of `bench`. `runs.csv` has a line for each run: latency and what the process used in the phase
`work`, by `bench` itself; calls by phase, and what was lost, by the tracer. `counts.csv` has the calls in `work` of each
traced run, by call, device and command.
"""
import collections, csv, json, pathlib, random, statistics, subprocess, sys, time

SIZES = "4K 16K 64K 96K 128K 256K 512K 1M 1536K 2M 3M 4M 16M 24M 32M 48M 64M 256M 1G".split()
DURATIONS = "0 10 20 50 100 200 500 1000 5000".split()
CELLS = (
    # Allocations: size, repetition, kind of memory, lifetime, batches.
    [f"alloc --bytes {size} --iters 200" for size in SIZES]
    + [f"alloc --bytes {size} --iters {iters}" for size in ("64K", "4M") for iters in (0, 10, 100, 1000)]
    + [f"alloc --bytes {size} --iters 100 --memory {kind}" for kind in ("pinned", "managed") for size in ("4K", "64K", "1M", "2M", "4M", "64M")]
    + [f"alloc --bytes {size} --iters 200 --memory async-pool --sync-every {every}" for every in (0, 1) for size in ("4K", "64K", "4M", "64M")]
    + ["alloc --bytes 4M --iters 200 --lifetime pooled", "alloc --bytes 4M --iters 50 --batch 16", "alloc --bytes 4M --iters 50 --batch 16 --fused", "alloc --bytes 64K --iters 50 --batch 64"]
    # Launches, waited for at the end.
    + [f"launch --iters {iters}" for iters in (0, 10, 100, 1000, 10_000, 100_000)]
    + ["launch --iters 1000 --sync-every 1", "launch --iters 1000 --sync-every 10", "launch --iters 1000 --streams 8", "launch --iters 100 --batch 100", "launch --iters 100 --batch 100 --graph", "launch --iters 100 --batch 100 --fused", "launch --iters 1000 --graph"]
    # Kernels: size, kind of memory, lifetime.
    + [f"kernel --bytes {size} --iters 200" for size in ("4K", "64K", "1M", "2M", "16M", "64M", "256M", "1G")]
    + [f"kernel --bytes {size} --iters 200 --duration-us 5000" for size in ("4K", "1M", "64M")]
    + [f"kernel --bytes 4M --iters 100 --memory {kind}" for kind in ("managed", "pinned", "async-pool")]
    + [f"kernel --bytes 4M --iters 100 --lifetime {lifetime}" for lifetime in ("per-iter", "pooled")]
    + ["kernel --bytes 4M --iters 200 --streams 8", "kernel --bytes 4M --iters 100 --batch 100 --graph"]
    + [f"kernel --bytes 4M --iters 100 --lifetime per-iter --memory async-pool --sync-every {every}" for every in (0, 1)]
    # Copies.
    + [f"copy --bytes {size} --iters 50 --direction {way} --memory {kind}" for size in ("4K", "32K", "64K", "1M", "16M", "256M") for way in ("h2d", "d2h") for kind in ("pageable", "pinned")]
    + ["copy --bytes 1M --iters 50 --memory pinned --streams 8", "copy --bytes 64K --iters 50 --memory pinned --batch 16"]
    # How a thread waits, by how long.
    + [f"sync --iters 200 --wait {wait} --duration-us {duration}" for wait in ("default", "spin", "yield", "block") for duration in DURATIONS]
)
USED = "user_ns system_ns voluntary_switches involuntary_switches minor_faults major_faults".split()
PHASES = "init warmup work teardown".split()
KEY = "syscall device ioctl detail category role".split()


def bench(prefix, bin, cell):
    command = prefix + [f"{bin}/bench"] + cell.split() + ["--backend", "cuda", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else str(done.returncode)
    report = json.loads(done.stdout)
    latency = report["latency"] or {}
    return [latency.get(f"{p}_ns", "") for p in ("p50", "p90", "p99", "max")] + [report["wall_ns"]] + [report["usage"][name] for name in USED], None


def traced(path):
    """Calls by phase, what was lost, and the calls in `work`."""
    lines = path.read_text().splitlines()
    header = json.loads(lines[0].removeprefix("# gpuos-trace "))
    lost, by_phase, work = sum(header["losses"].values()), collections.Counter(), collections.Counter()
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        by_phase[row["phase"]] += int(row["calls"])
        if row["phase"] == "work":
            key = tuple(row[name] for name in KEY)
            work[key] += int(row["calls"])
    return [by_phase[phase] for phase in PHASES] + [lost], work


def measure(bin, out, seconds, known=None):
    """Cells that `known`, another runs.csv, has are left out."""
    bin, out, end = pathlib.Path(bin).resolve(), pathlib.Path(out), time.monotonic() + float(seconds)
    measured = {row["cell"] for row in csv.DictReader(open(known))} if known else set()
    cells = [cell for cell in CELLS if cell not in measured]
    if not cells:
        sys.exit(f"{known} has every cell")
    runs, counts = csv.writer(open(out / "runs.csv", "w")), csv.writer(open(out / "counts.csv", "w"))
    runs.writerow(["block", "place", "cell", "mode", "p50_ns", "p90_ns", "p99_ns", "max_ns", "wall_ns", *USED, *PHASES, "lost", "error"])
    counts.writerow(["block", "cell", *KEY, "calls"])
    file, block, draw = out / "run.csv", 0, random.Random(1)
    longest = 0
    # A block that would not come to its end is not begun.
    while time.monotonic() + longest < end:
        block, start = block + 1, time.monotonic()
        for place, cell in enumerate(draw.sample(cells, len(cells))):
            for mode in draw.sample(["bare", "run"], 2):
                prefix = [f"{bin}/gpuos-trace", "run", "-q", "-o", str(file), "--"] if mode == "run" else []
                values, error = bench(prefix, bin, cell)
                calls, work = traced(file) if mode == "run" and values else ([""] * 5, {})
                runs.writerow([block, place, cell, mode, *(values or [""] * 11), *calls, error or ""])
                counts.writerows([block, cell, *key, number] for key, number in sorted(work.items()))
        longest = time.monotonic() - start
        print(f"block {block}: {len(cells)} cells with and without the tracer in {longest:.0f} s", flush=True)
    file.unlink(missing_ok=True)


def tables(out):
    out = pathlib.Path(out)
    calls = collections.defaultdict(collections.Counter)
    for row in csv.DictReader(open(out / "counts.csv")):
        calls[row["cell"], row["block"]][(row["syscall"], row["device"], row["ioctl"])] += int(row["calls"])
    rows = list(csv.DictReader(open(out / "runs.csv")))
    blocks = sorted({row["block"] for row in rows}, key=int)
    print(f"{len(blocks)} blocks; lost in any run: {sum(int(row['lost'] or 0) for row in rows)}; failed runs: {sum(bool(row['error']) for row in rows)}")
    print(f"{'cell':<88}{'calls in work, by block':>28}{'init':>7}{'p50 µs':>10}{'traced':>10}{'switches':>9}{'CPU/wall':>9}  calls")
    measured = {row["cell"] for row in rows}
    for cell in (cell for cell in CELLS if cell in measured):
        of = {mode: [row for row in rows if row["cell"] == cell and row["mode"] == mode and not row["error"]] for mode in ("bare", "run")}
        if not of["bare"] or not of["run"]:
            print(f"{cell:<88} failed: {[row['error'] for row in rows if row['cell'] == cell][:1]}")
            continue
        middle = lambda mode, name: statistics.median(float(row[name] or 0) for row in of[mode])
        work = sorted({int(row["work"]) for row in of["run"]})
        span = str(work[0]) if len(work) == 1 else f"{work[0]} to {work[-1]}"
        used = middle("bare", "user_ns") + middle("bare", "system_ns")
        top = collections.Counter()
        for block in blocks:
            for key, number in calls[cell, block].items():
                top[key] += number / len(blocks)
        words = ", ".join(f"{number:.0f} {' '.join(filter(None, (key[2] or key[0], key[1])))}" for key, number in top.most_common(5))
        print(f"{cell:<88}{span:>28}{middle('run', 'init'):>7.0f}{middle('bare', 'p50_ns') / 1e3:>10.1f}{middle('run', 'p50_ns') / 1e3:>10.1f}{middle('bare', 'voluntary_switches'):>9.0f}{used / max(middle('bare', 'wall_ns'), 1):>9.2f}  {words}")


{"measure": measure, "tables": tables}[sys.argv[1]](*sys.argv[2:])
