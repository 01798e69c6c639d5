"""Real models as cells of a plan: the contract of `bench`. Marks its phases (load, warmup, work, teardown), takes `--iters` and
`--json`, prints the report of `bench`. A unit of work is an inference, a token, a training step, a load or a cold start."""
import argparse, json, pathlib, resource, statistics, subprocess, sys, time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "client/phase/python"))
import gpuos_phase

CLASSES, SIDE, VOCABULARY, TOKENS = 1000, 224, 50257, 128


# Of waits for the device: how many, how long, and how much CPU time the waiting thread used meanwhile.
WAITS = {"count": 0, "wall_ns": 0, "cpu_ns": 0}


def waited(what):
    """Does what waits for the device, and counts it."""
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    result = what()
    WAITS["cpu_ns"] += time.thread_time_ns() - cpu
    WAITS["wall_ns"] += time.perf_counter_ns() - wall
    WAITS["count"] += 1
    return result


def wait(device):
    if device == "cuda":
        import torch

        waited(torch.cuda.synchronize)


def resnet():
    import torchvision

    return torchvision.models.resnet18()


def infer(options):
    """An inference of ResNet-18 or of a transformer encoder, waited for."""
    import torch

    torch.manual_seed(1)
    if options.network == "resnet18":
        module, data = resnet(), torch.randn(options.batch, 3, SIDE, SIDE)
    else:
        layer = torch.nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
        module = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        data = torch.randn(options.batch, TOKENS, 512)
    module, data = module.to(options.device).eval(), data.to(options.device)

    def unit():
        with torch.no_grad():
            module(data)
        wait(options.device)

    return unit


def generate(options):
    """A token of a network of GPT-2's shape with random weights, from its cache of keys and values."""
    import torch, transformers

    torch.manual_seed(1)
    module = transformers.GPT2LMHeadModel(transformers.GPT2Config()).to(options.device).eval()
    state = {"token": torch.zeros(options.batch, 1, dtype=torch.long, device=options.device), "past": None, "length": 0}

    def unit():
        with torch.no_grad():
            if state["length"] == 512:
                state["past"], state["length"] = None, 0
            out = module(state["token"], past_key_values=state["past"], use_cache=True)
            state["past"], state["length"] = out.past_key_values, state["length"] + 1
            state["token"] = out.logits[:, -1:].argmax(-1)
            # A server looks at each token, to send it and to see whether it is the last.
            waited(state["token"][0].item)

    return unit


def train(options):
    """A step of ResNet-18 on batches that worker processes make in pinned memory; the loss is looked at."""
    import torch

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return 1 << 30

        def __getitem__(self, index):
            return torch.full((3, SIDE, SIDE), index % 255 / 255.0), index % CLASSES

    torch.manual_seed(1)
    module = resnet().to(options.device).train()
    optimizer, loss_of = torch.optim.SGD(module.parameters(), lr=0.01), torch.nn.CrossEntropyLoss()
    pinned = options.device == "cuda"
    state = {}

    def begin():
        # Worker processes stay in the phase that they are started in.
        loader = torch.utils.data.DataLoader(Images(), batch_size=options.batch, num_workers=2, pin_memory=pinned)
        state["batches"] = iter(loader)

    def unit():
        images, labels = (part.to(options.device, non_blocking=True) for part in next(state["batches"]))
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(module(images), labels)
        loss.backward()
        optimizer.step()
        waited(loss.item)

    unit.begin, unit.end = begin, state.clear
    return unit


def load(options):
    """A model's weights from a file to the device, and gone again."""
    import gc, tempfile, torch

    file = tempfile.NamedTemporaryFile(suffix=".pt")
    torch.save(resnet().state_dict(), file.name)

    def unit():
        module = resnet()
        module.load_state_dict(torch.load(file.name, map_location="cpu"))
        module = module.to(options.device)
        wait(options.device)
        del module
        gc.collect()
        if options.device == "cuda":
            torch.cuda.empty_cache()

    unit.keeps = file
    return unit


def cold(options):
    """A process from its start to its first result."""
    code = f"import torch; print((torch.ones(8, device='{options.device}') + 1).sum().item())"

    def unit():
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

    return unit


CELLS = {"infer": infer, "generate": generate, "train": train, "load": load, "cold": cold}


def usage():
    """Of this process and of those that it started and that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "user_ns": int(sum(of.ru_utime for of in both) * 1e9),
        "system_ns": int(sum(of.ru_stime for of in both) * 1e9),
        "voluntary_switches": sum(of.ru_nvcsw for of in both),
        "involuntary_switches": sum(of.ru_nivcsw for of in both),
        "minor_faults": sum(of.ru_minflt for of in both),
        "major_faults": sum(of.ru_majflt for of in both),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=CELLS, required=True)
    parser.add_argument("--network", choices=["resnet18", "transformer"], default="resnet18")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--iters", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    gpuos_phase.switch("load")
    unit = CELLS[options.cell](options)
    begin = getattr(unit, "begin", lambda: None)
    gpuos_phase.switch("warmup")
    begin()
    for _ in range(options.warmup):
        unit()
    getattr(unit, "end", lambda: None)()
    latencies, before = [], usage()
    gpuos_phase.switch("work")
    begin()
    start = time.perf_counter_ns()
    for _ in range(options.iters):
        began = time.perf_counter_ns()
        unit()
        latencies.append(time.perf_counter_ns() - began)
    wall = time.perf_counter_ns() - start
    gpuos_phase.iterations(options.iters)
    gpuos_phase.switch("teardown")
    report = {"wall_ns": wall, "usage": {name: value - before[name] for name, value in usage().items()}, "latency": None}
    if latencies:
        latencies.sort()
        at = lambda share: latencies[min(len(latencies) - 1, int(share * len(latencies)))]
        report["latency"] = {
            "count": len(latencies),
            "p50_ns": int(statistics.median(latencies)),
            "p90_ns": at(0.9),
            "p99_ns": at(0.99),
            "max_ns": max(latencies),
            "mean_ns": int(statistics.fmean(latencies)),
        }
    print(json.dumps(report) if options.json else report)


if __name__ == "__main__":
    main()
