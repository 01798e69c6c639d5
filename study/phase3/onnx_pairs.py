"""Of processes of `bench infer` in pairs, one with waits as jobs and one with the driver's own (`onnx.sh`): a line of JSON for each
arm, as `arms.py` has them; the interval is by bootstrap over pairs of processes.
  python3 study/phase3/onnx_pairs.py FOLDER   writes FOLDER/onnx.jsonl"""
import collections, glob, json, re, statistics, sys

from arms import interval


def main():
    folder, cells = sys.argv[1], collections.defaultdict(lambda: {"native": {}, "jobs": {}})
    for name in sorted(glob.glob(f"{folder}/onnx-*.json")):
        model, batch, arm, number = re.fullmatch(r"onnx-(\w+)-(\d+)-(\w+)-(\d+).json", name.rsplit("/", 1)[1]).groups()
        cells[model, int(batch)][arm][number] = json.load(open(name))
    with open(f"{folder}/onnx.jsonl", "w") as file:
        for (model, batch), arms in cells.items():
            numbers = sorted(set(arms["native"]) & set(arms["jobs"]))
            for arm, runs in arms.items():
                runs = [runs[number] for number in numbers]
                p50, p99 = (statistics.median(run["latency"][f"{at}_ns"] for run in runs) / 1e6 for at in ("p50", "p99"))
                core = statistics.median((run["usage"]["user_ns"] + run["usage"]["system_ns"]) / run["wall_ns"] for run in runs)
                line = {"mode": model, "batch": batch, "jobs": arm == "jobs", "processes": len(runs)}
                line |= {"units": sum(run["latency"]["count"] for run in runs), "p50_ms": round(p50, 4), "p99_ms": round(p99, 4)}
                line |= {"core": round(core, 3), "out": sorted({run["error"] for run in runs})}
                if arm == "jobs":
                    both = [[arms[way][number]["latency"]["p50_ns"] for way in ("native", "jobs")] for number in numbers]
                    line["ratio"] = interval(both)
                file.write(json.dumps(line) + "\n")
    print(open(f"{folder}/onnx.jsonl").read(), end="")


if __name__ == "__main__":
    main()
