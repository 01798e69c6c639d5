"""Ratio of the median latencies with and without the tracer, pair by pair, with a bootstrap interval over the pairs."""
import csv, random, statistics, sys

medians = {}
for row in csv.DictReader(open(sys.argv[1])):
    medians[row["model"], row["round"], row["mode"]] = float(row["median_ns"])
for model in ("resnet18", "transformer"):
    rounds = {round for (of, round, mode) in medians if of == model}
    pairs = [(medians[model, round, "bare"], medians[model, round, "run"]) for round in rounds if (model, round, "run") in medians and (model, round, "bare") in medians]
    ratios = [traced / bare for bare, traced in pairs]
    draw = random.Random(1)
    resampled = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(10_000))
    low, high = resampled[249], resampled[9749]
    bare = statistics.median(bare for bare, _ in pairs) / 1e3
    print(f"{model}: {len(pairs)} pairs, bare median {bare:.1f} µs, ratio {statistics.median(ratios):.4f}, 95 % interval {low:.4f} to {high:.4f}")
