"""What waits through jobs change for an unmodified model: ResNet-50 in half precision, its waits as jobs and as the driver's own in
turns (`arms.py`). A line of JSON for each arm. Needs PyTorch and torchvision, and
  LD_PRELOAD=libgpuos_job_preload.so python3 study/phase3/torch_loop.py eval|graph|train|streams BATCH [ROUNDS]"""
import argparse, copy, hashlib

from arms import block, measure

TURN = 50  # iterations


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

        # The graph reads their memory and does not own it.
        unit.keeps = module, data
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
    begin = copy.deepcopy(module.state_dict())

    def unit():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(module(data).float(), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        return loss

    unit.reset = lambda: module.load_state_dict(begin)
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
    launch = model(options)

    def unit():
        out = launch()
        torch.cuda.synchronize()
        return out

    def digest(out):
        return hashlib.md5(out.detach().float().cpu().numpy().tobytes()).hexdigest()[:12]

    for _ in range(30):
        unit()
    about = {"mode": options.mode, "batch": options.batch, "blocking": options.blocking}
    measure(unit, digest, options.rounds, TURN, reset=getattr(launch, "reset", None), **about)


if __name__ == "__main__":
    main()
