"""Ranks of NCCL, a process each: the first collective, which connects, and all-reduces in steady state, each waited for. Phases
and lines as those of `session.py`, from rank 0; calls are of all ranks together. Run with the tracer and without:
  gpuos-trace run --per-thread -o FILE.parquet -- python3 study/phase2/ranks.py [--ranks N] >FILE.jsonl"""
import argparse, json, os, statistics, time

from models import WAITS, gpuos_phase, usage, wait

UNITS = 1 << 20  # 4 MiB of 32-bit numbers
ALL_REDUCES = 500


def timed(name, iters, unit):
    """A line, of `iters` units in a phase of its own."""
    latencies, before, waits = [], usage(), dict(WAITS)
    gpuos_phase.switch(name)
    start = time.perf_counter_ns()
    for _ in range(iters):
        began = time.perf_counter_ns()
        unit()
        latencies.append(time.perf_counter_ns() - began)
    wall = time.perf_counter_ns() - start
    gpuos_phase.iterations(iters)
    gpuos_phase.switch("preparation")
    after = usage()
    line = {"cell": name, "wait": "default", "device": "cuda", "iters": iters, "wall_ns": wall}
    line |= {"p50_ns": int(statistics.median(latencies)), "usage": {key: after[key] - before[key] for key in after}}
    return line | {"waits": {key: WAITS[key] - waits[key] for key in WAITS}}


def rank(number, options):
    import torch, torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(options.port))
    gpuos_phase.switch("preparation")
    torch.cuda.set_device(number)
    data = torch.ones(UNITS, device="cuda")
    wait("cuda")
    dist.init_process_group("nccl", rank=number, world_size=options.ranks)

    def unit():
        dist.all_reduce(data)
        wait("cuda")

    lines = [timed(f"connect-{options.ranks}", 1, unit)]
    for _ in range(20):
        unit()
    lines.append(timed(f"all-reduce-{options.ranks}", ALL_REDUCES, unit))
    gpuos_phase.switch("teardown")
    dist.destroy_process_group()
    if number == 0:
        for line in lines:
            print(json.dumps(line), flush=True)


def main():
    import torch.multiprocessing as processes

    parser = argparse.ArgumentParser(description=__doc__.split(". ")[0].replace("\n", " "))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--port", type=int, default=29533)
    options = parser.parse_args()
    processes.spawn(rank, args=(options,), nprocs=options.ranks)


if __name__ == "__main__":
    main()
