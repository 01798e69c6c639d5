"""Ranks of NCCL, a process each. First the first collective, which connects; then all-reduces, all-gathers, sends to a neighbour,
a tensor-parallel layer, and training steps of DDP and FSDP in steady state, each waited for; then without NCCL copies between two
devices in one process, and memory handed to another process (CUDA IPC). Phases and lines as those of `session.py`, from rank 0;
calls are of all ranks together. Run with the tracer and without:
  gpuos-trace run --per-thread -o FILE.parquet -- python3 study/phase2/ranks.py [--ranks N] [--cells …] >FILE.jsonl"""
import argparse, json, os, statistics, time

from models import WAITS, gpuos_phase, usage, wait

UNITS = 1 << 20  # 4 MiB of 32-bit numbers
ALL_REDUCES = 500
STEPS = 40
HANDLES = 20


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


def all_reduce(number, ranks):
    import torch, torch.distributed as dist

    data = torch.ones(UNITS, device="cuda")
    return ALL_REDUCES, lambda: dist.all_reduce(data)


def all_gather(number, ranks):
    import torch, torch.distributed as dist

    data, all_data = torch.ones(UNITS, device="cuda"), torch.empty(UNITS * ranks, device="cuda")
    return ALL_REDUCES, lambda: dist.all_gather_into_tensor(all_data, data)


def send(number, ranks):
    """To the next rank of a ring, and from the one before."""
    import torch, torch.distributed as dist

    out, into = torch.ones(UNITS, device="cuda"), torch.empty(UNITS, device="cuda")
    pair = [dist.P2POp(dist.isend, out, (number + 1) % ranks), dist.P2POp(dist.irecv, into, (number - 1) % ranks)]
    return ALL_REDUCES, lambda: [request.wait() for request in dist.batch_isend_irecv(pair)]


def tensor_parallel(number, ranks):
    """A layer of a transformer's width whose weights are split between the ranks."""
    import torch, torch.distributed as dist

    width = 4096
    data = torch.randn(64, width, device="cuda", dtype=torch.half)
    up = torch.randn(width, 4 * width // ranks, device="cuda", dtype=torch.half) * 0.01
    down = torch.randn(4 * width // ranks, width, device="cuda", dtype=torch.half) * 0.01

    def unit():
        with torch.no_grad():
            dist.all_reduce(torch.relu(data @ up) @ down)

    return ALL_REDUCES, unit


def step_of(module, data, labels):
    import torch

    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)

    def unit():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(module(data), labels).backward()
        optimizer.step()

    return STEPS, unit


def ddp(number, ranks):
    """A step of ResNet-18 in batches of 64 a rank."""
    import torch, torchvision

    module = torch.nn.parallel.DistributedDataParallel(torchvision.models.resnet18().cuda(), device_ids=[number])
    return step_of(module, torch.randn(64, 3, 224, 224, device="cuda"), torch.zeros(64, dtype=torch.long, device="cuda"))


def fsdp(number, ranks):
    """A step of a perceptron of eight wide layers, each split between the ranks."""
    import torch
    from torch.distributed.fsdp import fully_shard

    layers = [torch.nn.Sequential(torch.nn.Linear(2048, 2048), torch.nn.ReLU()) for _ in range(8)]
    module = torch.nn.Sequential(*layers).cuda()
    for layer in module:
        fully_shard(layer)
    fully_shard(module)
    return step_of(module, torch.randn(256, 2048, device="cuda"), torch.zeros(256, dtype=torch.long, device="cuda"))


CELLS = {
    "all-reduce": all_reduce,
    "all-gather": all_gather,
    "send": send,
    "tensor-parallel": tensor_parallel,
    "ddp": ddp,
    "fsdp": fsdp,
}


def rank(number, options):
    import torch, torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(options.port))
    gpuos_phase.switch("preparation")
    torch.cuda.set_device(number)
    data = torch.ones(UNITS, device="cuda")
    wait("cuda")
    dist.init_process_group("nccl", rank=number, world_size=options.ranks)

    def waited_for(unit):
        def both():
            unit()
            wait("cuda")

        return both

    lines = [timed(f"connect-{options.ranks}", 1, waited_for(lambda: dist.all_reduce(data)))]
    for name in options.cells:
        if name not in CELLS:
            continue
        iters, unit = CELLS[name](number, options.ranks)
        unit = waited_for(unit)
        # What connects is apart: the first unit of each kind.
        lines.append(timed(f"{name}-first-{options.ranks}", 1, unit))
        for _ in range(10):
            unit()
        dist.barrier()
        wait("cuda")
        lines.append(timed(f"{name}-{options.ranks}", iters, unit))
    gpuos_phase.switch("teardown")
    dist.destroy_process_group()
    if number == 0:
        for line in lines:
            print(json.dumps(line), flush=True)


def peer():
    """Copies between two devices in one process, without NCCL."""
    import torch

    gpuos_phase.switch("preparation")
    here, there = (torch.ones(UNITS, device=f"cuda:{device}") for device in range(2))

    def unit():
        there.copy_(here)
        wait("cuda")

    wait("cuda")
    lines = [timed("peer-first-2", 1, unit), timed("peer-2", ALL_REDUCES, unit)]
    gpuos_phase.switch("teardown")
    for line in lines:
        print(json.dumps(line), flush=True)


def open_memory(handles, answers):
    import torch

    for number in range(HANDLES + 1):
        data = handles.get()
        if number == 1:
            # The first starts CUDA here.
            gpuos_phase.switch("ipc-2")
        data += 1
        wait("cuda")
        del data
        torch.cuda.ipc_collect()
        answers.put(None)
    gpuos_phase.switch("teardown")


def ipc():
    """Memory that one process allocates and another opens, on one device, each unit anew."""
    import torch, torch.multiprocessing as processes

    gpuos_phase.switch("preparation")
    context = processes.get_context("spawn")
    handles, answers = context.Queue(), context.Queue()
    other = context.Process(target=open_memory, args=(handles, answers))
    other.start()

    def unit():
        data = torch.ones(8 * UNITS, device="cuda")
        handles.put(data)
        answers.get()
        del data
        torch.cuda.ipc_collect()
        torch.cuda.empty_cache()

    unit()
    line = timed("ipc-2", HANDLES, unit)
    gpuos_phase.switch("teardown")
    other.join()
    print(json.dumps(line), flush=True)


WITHOUT_NCCL = {"peer": peer, "ipc": ipc}


def main():
    import torch.multiprocessing as processes

    parser = argparse.ArgumentParser(description=__doc__.split(". ")[0].replace("\n", " "))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--port", type=int, default=29533)
    parser.add_argument("--cells", nargs="*", choices=[*CELLS, *WITHOUT_NCCL], default=["all-reduce"])
    options = parser.parse_args()
    if set(options.cells) & set(CELLS):
        processes.spawn(rank, args=(options,), nprocs=options.ranks)
    for name in options.cells:
        if name in WITHOUT_NCCL:
            WITHOUT_NCCL[name]()


if __name__ == "__main__":
    main()
