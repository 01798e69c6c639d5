"""Two arms within one process: waits as jobs and as the driver's own, in turns, so that ratios are of one run. Programs are not
changed for it; they run under
  LD_PRELOAD=libgpuos_job_preload.so
Without the library both arms are the driver's own."""
import ctypes, json, random, resource, statistics, time


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
            raise SystemExit(f"arms.py: CUDA: cuDevicePrimaryCtxSetFlags fails with {status}")


def interval(pairs):
    """Median ratio of pairs, and its 95 % interval by bootstrap over pairs."""
    ratios, draw = [on / off for off, on in pairs], random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return [round(value, 4) for value in (statistics.median(ratios), medians[50], medians[1949])]


def measure(unit, digest, rounds, turn, warm=5, reset=None, **about):
    """Runs `unit` in turns of `turn` times, `rounds` turns of each arm, and prints a line of JSON for each arm. `unit` waits for its
    work; `digest` makes a text of what it gave last; `reset` brings it back to where it began, so that every turn gives the same."""
    arms = {on: {"latencies": [], "medians": [], "cpu": 0.0, "wall": 0.0, "out": set()} for on in (False, True)}
    is_there = switch(False)
    for number in range(2 * rounds):
        # The first of a pair now this and now that.
        on = (number + number // 2) % 2 == 1
        switch(on)
        arm, out, latencies = arms[on], None, []
        if reset is not None:
            reset()
        for _ in range(warm):
            unit()
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(turn):
            began = time.perf_counter()
            out = unit()
            latencies.append(time.perf_counter() - began)
        arm["wall"] += time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        arm["cpu"] += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        arm["latencies"] += latencies
        arm["medians"].append(statistics.median(latencies))
        arm["out"].add(digest(out))
    for on, arm in arms.items():
        latencies = sorted(arm["latencies"])
        line = about | {"jobs": on and is_there, "units": len(latencies), "p50_ms": round(statistics.median(latencies) * 1e3, 4)}
        line |= {"p99_ms": round(latencies[len(latencies) * 99 // 100] * 1e3, 4), "core": round(arm["cpu"] / arm["wall"], 3)}
        if on and is_there:
            line["ratio"] = interval(list(zip(arms[False]["medians"], arm["medians"])))
        print(json.dumps(line | {"out": sorted(arm["out"])}), flush=True)
