"""`measure`: medians of the latency of inferences, pairs with the tracer attached and detached, in one process.
`ratios`: their ratio, with an interval by a bootstrap over processes and, within them, over pairs."""
import collections, csv, os, random, signal, statistics, subprocess, sys, time

INFERENCES = 200


def measure(model, process, tracer, seconds):
    import torch, torchvision
    torch.manual_seed(1)
    if model == "resnet18":
        network, data = torchvision.models.resnet18(), torch.randn(8, 3, 224, 224)
    else:
        # The size of MiniLM-L6: 6 layers, 384 wide, 12 heads; random weights.
        layer = torch.nn.TransformerEncoderLayer(384, 12, 1536, batch_first=True)
        network, data = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), torch.randn(8, 128, 384)
    network, data = network.cuda().eval(), data.cuda()

    def median():
        latencies = []
        for _ in range(INFERENCES):
            start = time.perf_counter_ns()
            network(data)
            torch.cuda.synchronize()
            latencies.append(time.perf_counter_ns() - start)
        return statistics.median(latencies)

    draw, end, pair = random.Random(int(process)), time.monotonic() + float(seconds), 0
    with torch.no_grad():
        median()
        while time.monotonic() < end:
            pair += 1
            for mode in draw.sample(["bare", "attached"], 2):
                attached = None
                if mode == "attached":
                    attached = subprocess.Popen([tracer, "attach", "-p", str(os.getpid())], stderr=subprocess.PIPE, text=True)
                    while "attached to" not in attached.stderr.readline():
                        assert attached.poll() is None, "the tracer ended"
                print(f"{model},{process},{pair},{mode},{median()}", flush=True)
                if attached:
                    attached.send_signal(signal.SIGINT)
                    attached.communicate()


def ratios(file):
    medians = collections.defaultdict(dict)
    for row in csv.DictReader(open(file)):
        medians[row["model"], row["process"], row["pair"]][row["mode"]] = float(row["median_ns"])
    for model in ("resnet18", "transformer"):
        processes, bare = collections.defaultdict(list), []
        for (of, process, _), pair in medians.items():
            if of == model and len(pair) == 2:
                processes[process].append(pair["attached"] / pair["bare"])
                bare.append(pair["bare"])
        if not bare:
            continue
        processes, draw = list(processes.values()), random.Random(1)
        once = lambda: statistics.median(ratio for ratios in draw.choices(processes, k=len(processes)) for ratio in draw.choices(ratios, k=len(ratios)))
        drawn = sorted(once() for _ in range(10_000))
        middle = statistics.median(ratio for ratios in processes for ratio in ratios)
        print(f"{model}: {len(bare)} pairs in {len(processes)} processes, bare median {statistics.median(bare) / 1e3:.1f} µs, ratio {middle:.4f}, 95 % interval {drawn[249]:.4f} to {drawn[9749]:.4f}")


{"measure": measure, "ratios": ratios}[sys.argv[1]](*sys.argv[2:])
