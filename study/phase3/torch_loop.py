"""What waits through jobs change for an unmodified model: ResNet-50 in half precision, its waits as jobs and as the driver's own in
turns within one process, so that ratios are of one run. A line of JSON for each arm. Needs PyTorch and torchvision, and
  LD_PRELOAD=libgpuos_job_preload.so python3 study/phase3/torch_loop.py eval|graph|train|streams BATCH [ROUNDS]
Without the library both arms are the driver's own."""
import argparse, ctypes, hashlib, json, resource, statistics, time

TURN = 50  # iterations


def switch(on):
    """Jobs on or off; whether there is anything to switch."""
    try:
        ctypes.CDLL(None).gpuos_job_preload_switch(int(on))
    except AttributeError:
        return False
    return True


def block():
    """Waits of the driver sleep: a flag of the context, set before it is made."""
    cuda, device = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    for status in (cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0), cuda.cuDevicePrimaryCtxSetFlags_v2(device, 4)):
        if status != 0:
            raise SystemExit(f"torch_loop.py: CUDA: cuDevicePrimaryCtxSetFlags fails with {status}")


def model(options):
    import torch, torchvision

    torch.manual_seed(0)
    torch.backends.cudnn.deterministic = True
    module = torchvision.models.resnet50(weights=None).cuda().half()
    data = torch.randn(options.batch, 3, 224, 224, device="cuda", dtype=torch.half)
    if options.mode == "eval":
        module.eval()

        def unit():
            with torch.inference_mode():
                return module(data)

        return unit
    if options.mode == "graph":
        module.eval()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(3):
                module(data)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            out = module(data)

        def unit():
            graph.replay()
            return out

        return unit
    if options.mode == "streams":
        module.eval()
        streams = [torch.cuda.Stream() for _ in range(3)]

        def unit():
            outs = []
            with torch.inference_mode():
                for stream in streams:
                    with torch.cuda.stream(stream):
                        outs.append(module(data))
                for stream in streams:
                    stream.synchronize()
            return outs[-1]

        return unit
    module.train()
    labels = torch.zeros(options.batch, dtype=torch.long, device="cuda")
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4)

    def unit():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(module(data).float(), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        return loss

    return unit


def main():
    import torch

    parser = argparse.ArgumentParser(description=__doc__.split(". ")[0].replace("\n", " "))
    parser.add_argument("mode", choices=["eval", "graph", "train", "streams"])
    parser.add_argument("batch", type=int)
    parser.add_argument("rounds", type=int, nargs="?", default=6)
    parser.add_argument("--blocking", action="store_true", help="waits of the driver sleep, as with cudaDeviceScheduleBlockingSync")
    options = parser.parse_args()
    if options.blocking:
        block()
    unit = model(options)
    for _ in range(30):
        unit()
    torch.cuda.synchronize()
    arms = {on: {"latencies": [], "cpu": 0.0, "wall": 0.0, "out": None} for on in (False, True)}
    is_there = switch(False)
    for number in range(2 * options.rounds):
        # In turns, the first of a pair now this and now that.
        on = (number + number // 2) % 2 == 1
        switch(on)
        arm, out = arms[on], None
        for warm in range(5):
            unit()
            torch.cuda.synchronize()
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(TURN):
            began = time.perf_counter()
            out = unit()
            torch.cuda.synchronize()
            arm["latencies"].append(time.perf_counter() - began)
        arm["wall"] += time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        arm["cpu"] += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        arm["out"] = hashlib.md5(out.detach().float().cpu().numpy().tobytes()).hexdigest()[:12]
    for on, arm in arms.items():
        latencies = sorted(arm["latencies"])
        line = {"mode": options.mode, "batch": options.batch, "blocking": options.blocking, "jobs": on and is_there, "iters": len(latencies)}
        line |= {"p50_ms": round(statistics.median(latencies) * 1e3, 4)}
        line |= {"p99_ms": round(latencies[len(latencies) * 99 // 100] * 1e3, 4), "core": round(arm["cpu"] / arm["wall"], 3)}
        print(json.dumps(line | {"out": arm["out"]}), flush=True)


if __name__ == "__main__":
    main()
