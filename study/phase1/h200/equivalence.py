"""Is inference slowed by the tracer? `measure` prints medians of the latency of inferences in pairs of windows within one
process: of every second pair both are bare (A/A), of the others one has the tracer attached (A/B), in an order that is drawn.
`test` says what that shows: the margin is chosen from the A/A pairs alone, then the A/B pairs are tested for equivalence."""
import collections, csv, math, os, random, signal, statistics, subprocess, sys, time

INFERENCES = 200


def network(model):
    import torch
    torch.manual_seed(1)
    if model == "resnet18":
        import torchvision
        return torchvision.models.resnet18(), torch.randn(8, 3, 224, 224)
    if model == "minilm":
        # The shape of all-MiniLM-L6-v2; random weights.
        from transformers import BertConfig, BertModel
        config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        return BertModel(config), torch.randint(0, config.vocab_size, (8, 128))
    layer = torch.nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
    return torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), torch.randn(8, 128, 512)


def measure(model, process, tracer, seconds):
    import torch
    module, data = network(model)
    module, data = module.cuda().eval(), data.cuda()

    def median():
        latencies = []
        for _ in range(INFERENCES):
            start = time.perf_counter_ns()
            module(data)
            torch.cuda.synchronize()
            latencies.append(time.perf_counter_ns() - start)
        return statistics.median(latencies)

    def window(mode):
        if mode == "bare":
            return median()
        attached = subprocess.Popen([tracer, "attach", "-p", str(os.getpid())], stderr=subprocess.PIPE, text=True)
        while "attached to" not in attached.stderr.readline():
            assert attached.poll() is None, "the tracer ended"
        result = median()
        attached.send_signal(signal.SIGINT)
        attached.communicate()
        return result

    draw, end, pair = random.Random(f"{model} {process}"), time.monotonic() + float(seconds), 0
    with torch.no_grad():
        median(), median()
        while time.monotonic() < end:
            pair += 1
            modes = draw.sample(["bare", "attached"], 2) if pair % 2 else ["bare", "bare"]
            for place, mode in enumerate(modes, 1):
                print(f"{model},{process},{pair},{'ab' if pair % 2 else 'aa'},{place},{mode},{window(mode)}", flush=True)


def interval(processes, level, draw):
    """Of the median of log ratios, by a bootstrap over processes and, within them, over pairs."""
    once = lambda: statistics.median(r for ratios in draw.choices(processes, k=len(processes)) for r in draw.choices(ratios, k=len(ratios)))
    drawn = sorted(once() for _ in range(4000))
    tail = (1 - level) / 2
    return drawn[int(tail * len(drawn))], drawn[int((1 - tail) * len(drawn)) - 1]


def test(file):
    windows = collections.defaultdict(list)
    for row in csv.DictReader(open(file)):
        windows[row["model"], row["process"], row["pair"], row["kind"]].append((row["mode"], float(row["median_ns"])))
    for model in dict.fromkeys(key[0] for key in windows):
        aa, ab, second = (collections.defaultdict(list) for _ in range(3))
        for (of, process, _, kind), pair in windows.items():
            if of != model or len(pair) != 2:
                continue
            (first_mode, first), (_, last) = pair
            if kind == "aa":
                aa[process].append(math.log(last / first))
            else:
                ab[process].append(math.log(first / last) if first_mode == "attached" else math.log(last / first))
                second[first_mode].append(math.log(last / first))
        draw, percent = random.Random(1), lambda log: 100 * (math.exp(log) - 1)
        low, high = interval(list(aa.values()), 0.90, draw)
        # What two bare windows differ by, rounded up to half a percent.
        margin = math.ceil(max(abs(percent(low)), abs(percent(high))) / 0.5) * 0.5
        low, high = interval(list(ab.values()), 0.90, draw)
        middle = statistics.median(r for ratios in ab.values() for r in ratios)
        bound = max(abs(percent(low)), abs(percent(high)))
        orders = ", ".join(f"{mode} first {percent(statistics.median(ratios)):+.2f} %" for mode, ratios in sorted(second.items()))
        print(
            f"{model}: A/A {sum(map(len, aa.values()))} pairs, margin {margin:.1f} %; A/B {sum(map(len, ab.values()))} pairs in {len(ab)} processes, "
            f"{percent(middle):+.3f} %, 90 % interval {percent(low):+.3f} to {percent(high):+.3f}: "
            f"{'equivalent' if bound < margin else 'not shown'} within {margin:.1f} %, bound reached {bound:.3f} %; second window against first: {orders}"
        )


{"measure": measure, "test": test}[sys.argv[1]](*sys.argv[2:])
