"""Real models one after the other in one process: a unit of work is an inference, a token, a training step, a load of the
weights, a cold start of a process. Each is a phase of its own name, so that one traced run has what each of them asks for; a
line of JSON for each says how long a unit took and what its waits cost. Run with the tracer and without:
  gpuos-trace run --per-thread -o FILE.parquet -- python3 study/phase2/session.py [--wait block] [--cells …] >FILE.jsonl"""
import argparse, ctypes, gc, json, statistics, time, types

from models import CELLS, WAITS, gpuos_phase, usage, waited

WARMUP = 5
BLOCKING = 4  # CU_CTX_SCHED_BLOCKING_SYNC, cuda.h


def jax_step(options):
    """A training step of a small network, compiled by XLA; the loss is looked at."""
    import jax, jax.numpy as jnp

    keys = jax.random.split(jax.random.key(1), 3)
    weights = [jax.random.normal(key, (1024, 1024)) * 0.03 for key in keys]
    data = jax.random.normal(jax.random.key(2), (64, 1024))

    def loss_of(weights):
        value = data
        for weight in weights:
            value = jnp.tanh(value @ weight)
        return (value**2).mean()

    step = jax.jit(lambda weights: jax.value_and_grad(loss_of)(weights))
    state = {"weights": weights}

    def unit():
        loss, gradients = step(state["weights"])
        state["weights"] = [weight - 0.01 * gradient for weight, gradient in zip(state["weights"], gradients)]
        waited(loss.item)

    return unit


# Name, what it is, options, units at a time.
SESSION = [
    ("resnet18-1", "infer", dict(network="resnet18", batch=1), 200),
    ("resnet18-64", "infer", dict(network="resnet18", batch=64), 100),
    ("transformer-1", "infer", dict(network="transformer", batch=1), 200),
    ("transformer-64", "infer", dict(network="transformer", batch=64), 50),
    ("generate-1", "generate", dict(batch=1), 100),
    ("train-64", "train", dict(batch=64), 100),
    ("load", "load", dict(), 5),
    ("cold", "cold", dict(), 1),
    ("jax-step", "jax", dict(), 200),
]
CELLS = CELLS | {"jax": jax_step}


def sleep_in_waits():
    """Waits of this process on CUDA sleep: a flag of the context, set before it is made."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device = ctypes.c_int()
    for status in (cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0), cuda.cuDevicePrimaryCtxSetFlags_v2(device, BLOCKING)):
        if status != 0:
            raise SystemExit(f"session.py: CUDA: cuDevicePrimaryCtxSetFlags fails with {status}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(". ")[0].replace("\n", " "))
    parser.add_argument("--cells", default=",".join(name for name, kind, *_ in SESSION if kind != "jax"))
    parser.add_argument("--wait", choices=["default", "block"], default="default")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--scale", type=float, default=1.0, help="of the units at a time")
    options = parser.parse_args()
    wanted = options.cells.split(",")
    if unknown := set(wanted) - {name for name, *_ in SESSION}:
        parser.error(f"no cell: {', '.join(sorted(unknown))}")
    if options.wait == "block":
        sleep_in_waits()
    for name, kind, given, iters in SESSION:
        if name not in wanted:
            continue
        iters = max(1, int(iters * options.scale))
        gpuos_phase.switch("preparation")
        unit = CELLS[kind](types.SimpleNamespace(device=options.device, **({"network": "", "batch": 1} | given)))
        begin = getattr(unit, "begin", lambda: None)
        begin()
        for _ in range(WARMUP if kind != "cold" else 1):
            unit()
        getattr(unit, "end", lambda: None)()
        gpuos_phase.switch(name)
        # Worker processes stay in the phase that they are started in: a step's share of their start is in it.
        begin()
        latencies, before, waits, start = [], usage(), dict(WAITS), time.perf_counter_ns()
        for _ in range(iters):
            began = time.perf_counter_ns()
            unit()
            latencies.append(time.perf_counter_ns() - began)
        wall, after = time.perf_counter_ns() - start, usage()
        gpuos_phase.iterations(iters)
        gpuos_phase.switch("preparation")
        used = {key: after[key] - before[key] for key in after}
        line = {"cell": name, "wait": options.wait, "device": options.device, "iters": iters, "wall_ns": wall}
        line |= {"p50_ns": int(statistics.median(latencies)), "usage": used}
        line["waits"] = {key: WAITS[key] - waits[key] for key in WAITS}
        print(json.dumps(line), flush=True)
        del unit, begin
        gc.collect()
        if options.device == "cuda" and kind != "jax":
            import torch

            torch.cuda.empty_cache()
    gpuos_phase.switch("teardown")


if __name__ == "__main__":
    main()
