"""What the falsifiers ask (`falsifiers.toml`), in randomised blocks: every cell once a block, in an order of its own; a line of JSON a run
into OUTPUT/runs.jsonl. A block that is cut off is not used. Run from the root of the repository on a machine with an NVIDIA GPU, with
root for the runs under the tracer:
  python3 study/phase4/judge.py FOLDER OUTPUT SECONDS [--host]
FOLDER has `lab`, `libgpuos_job.so`, `bench` and `gpuos-trace`. Run again, it goes on. `--host`: threads of the CPU in place of a GPU."""
import argparse, csv, json, os, random, subprocess, sys, tempfile, time

RUN_SECONDS = 0.2


def cells(host):
    """Name and words; the tracer is on in those that end with `, traced`."""
    def lab(name, mode, way, us, streams=1, *words):
        iters = max(100, int(RUN_SECONDS * 1e6 / us)) * (streams if mode == "flight" else 1)
        fixed = [mode, way, "--microseconds", str(us), "--streams", str(streams), "--iters", str(iters), *words]
        return name, ["lab", *fixed, *(["--host"] if host else [])]

    for us in (50, 100, 300, 1000, 5000):
        for way in ("spin", "block", "job"):
            yield lab(f"wait {way} {us}", "wait", way, us)
    for us in (20, 40):
        for way in ("spin", "job"):
            yield lab(f"wait {way} {us}", "wait", way, us)
    for spread in (10, 50):
        for way in ("spin", "block", "job"):
            eager = ["--eager"] if way == "job" else []
            yield lab(f"wait {way} 1000 spread {spread}", "wait", way, 1000, 1, "--spread", str(spread), *eager)
    for way in ("spin", "job"):
        yield lab(f"wait {way} 1000 short", "wait", way, 1000, 1, "--short", *(["--eager"] if way == "job" else []))
    for us in (100, 1000):
        for way in ("spin", "block", "job"):
            yield lab(f"wait {way} {us} neighbour", "wait", way, us, 1, "--neighbour")
    for way in ("spin", "callback", "job", "fd"):
        yield lab(f"flight {way} 300 8", "flight", way, 300, 8)
    for way in ("callback", "job"):
        yield lab(f"flight {way} 5000 64", "flight", way, 5000, 64)
    yield "switch", ["lab", "switch", "job", "--iters", "20000", "--library", "LIBRARY", *(["--host"] if host else [])]
    for way in ("job",) if host else ("native", "job"):
        yield lab(f"pairs {way}", "alloc", way, 1000, 16, "--bytes", "4194304")
    backend = "host" if host else "cuda"
    alloc = ["bench", "alloc", "--backend", backend, "--bytes", "4M", "--batch", "16", "--warmup", "0", "--json"]
    for via in ("native", "arena") if host else ("native", "pool", "arena"):
        yield f"alloc {via}", [*alloc, "--iters", "300", "--via", via]
    # What is charged to a class, and calls. The tracer reads a class's table every tenth of a second.
    for via, iters in (("native", 300), ("identity", 300), ("arena", 20000)):
        yield f"alloc {via}, traced", [*alloc, "--iters", str(iters), "--via", via]
    for way, us in (("spin", 100), ("block", 100), ("job", 100), ("job", 1000), ("job", 5000)):
        name, words = lab(f"wait {way} {us}", "wait", way, us)
        yield f"{name}, traced", words
    name, words = lab("flight fd 300 8", "flight", "fd", 300, 8)
    yield f"{name}, traced", words


def traced(folder, words):
    """A line of the run under the tracer, with what its timed work asked of the system, and how much of that in a class of jobs."""
    with tempfile.TemporaryDirectory() as place:
        file = f"{place}/run.csv"
        line = json.loads(run([f"{folder}/gpuos-trace", "run", "--quiet", "--per-thread", "-o", file, "--", *words]))
        head, *table = open(file)
    about = json.loads(head.split(maxsplit=2)[2])
    rows = [row for row in csv.DictReader(table) if row["phase"].split("/")[0] == "work"]
    units = int(words[words.index("--iters") + 1])
    calls = lambda of: sum(int(row["calls"]) for row in rows if of(row))
    line["calls_a_unit"] = calls(lambda row: True) / units
    line["memory_calls_a_unit"] = calls(lambda row: row["role"] == "memory") / units
    asked = [row for row in rows if row["device"]] or [row for row in rows if row["role"] == "memory"]
    if asked:
        line["charged"] = sum(int(row["calls"]) for row in asked if "/" in row["phase"]) / sum(int(row["calls"]) for row in asked)
    for job in about.get("jobs", [])[:1]:
        line["class_bytes"], line["class_cpu_ns"] = job["bytes"], job["cpu_ns"]
        if "usage" in line:
            line["class_cpu"] = job["cpu_ns"] / (line["usage"]["user_ns"] + line["usage"]["system_ns"])
    line["lost"] = sum(count for name, count in about["losses"].items() if name != "job_tables")
    return line


def run(words):
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0].replace("\n", " "))
    parser.add_argument("folder")
    parser.add_argument("output")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--host", action="store_true")
    options = parser.parse_args()
    folder, end = os.path.realpath(options.folder), time.time() + options.seconds
    os.makedirs(options.output, exist_ok=True)
    os.environ["LD_LIBRARY_PATH"] = f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    # A stream each has a queue of its own.
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "32"
    path = f"{options.output}/runs.jsonl"
    known = [json.loads(line) for line in open(path)] if os.path.exists(path) else []
    have = {(line["block"], line["cell"]) for line in known}
    every = list(cells(options.host))
    with open(path, "a") as file:
        for block in range(1, 1000):
            order = every[:]
            random.Random(block).shuffle(order)
            for place, (name, words) in enumerate(order):
                if (block, name) in have:
                    continue
                if time.time() > end:
                    print(f"{block - 1} blocks whole, {place} of {len(every)} cells of the next")
                    return
                words = [f"{folder}/libgpuos_job.so" if word == "LIBRARY" else word for word in words]
                words[0] = f"{folder}/{words[0]}"
                try:
                    line = traced(folder, words) if name.endswith(", traced") else json.loads(run(words))
                except (subprocess.SubprocessError, ValueError, OSError) as error:
                    said = getattr(error, "stderr", None) or str(error)
                    line = {"failed": str(said).replace(folder + "/", "").strip()[-300:]}
                if "latency" in line:  # of `bench`
                    kept = [key for key in line if key.endswith("a_unit") or key.startswith("class") or key in ("via", "wall_ns", "charged", "lost")]
                    line = {key: line[key] for key in kept} | {"p50_us": line["latency"]["p50_ns"] / 1e3}
                print(json.dumps({"block": block, "cell": name} | line), file=file, flush=True)


if __name__ == "__main__":
    main()
