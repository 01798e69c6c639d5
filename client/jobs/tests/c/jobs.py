"""Waits and awaits of jobs on the host runtime; run by a test of the crate."""
import asyncio
import ctypes
import gc
import threading
import time

import gpuos_job

library = gpuos_job._load()
NAP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
nap = NAP(lambda argument: time.sleep(0.002) or 0)
fail = NAP(lambda argument: 5)
library.gpuos_job_host_launch.argtypes = [ctypes.c_void_p, NAP, ctypes.c_void_p]

context = gpuos_job.Context(gpuos_job.HOST)
naps = context.job_class("naps", bytes=4096)
streams = []
for _ in range(3):
    stream = ctypes.c_void_p()
    assert library.gpuos_job_host_open(ctypes.byref(stream)) == 0
    streams.append(stream.value)


def issue(stream, what=nap):
    assert library.gpuos_job_host_launch(stream, what, None) == 0


for _ in range(3):
    with naps.begin(streams[0]) as job:
        assert job.alloc(100) > 0
        issue(streams[0])
    job.wait()

gate = threading.Event()
held = NAP(lambda argument: 0 if gate.wait() else 1)
with naps.begin(streams[0]) as job:
    issue(streams[0], held)
for seconds in (1e-6, 0, -1):
    try:
        job.wait(seconds)
        raise AssertionError("it is held")
    except gpuos_job.Timeout:
        pass
gate.set()
job.wait()


async def client(stream, times):
    for _ in range(times):
        with naps.begin(stream) as job:
            issue(stream)
        await job
    return times


async def clients():
    return sum(await asyncio.gather(*(client(stream, 5) for stream in streams)))


assert asyncio.run(clients()) == 15
# Another loop takes over.
assert asyncio.run(clients()) == 15

async def failing():
    with naps.begin(streams[1]) as job:
        issue(streams[1], fail)
    await job


# The work may have failed before the job is submitted.
try:
    asyncio.run(failing())
    raise AssertionError("the job fails")
except gpuos_job.Error as error:
    assert error.code == 5, error

try:
    with naps.begin(streams[0]) as job:
        raise KeyError("a program's own")
except KeyError:
    pass


async def together():
    with naps.begin(streams[0]) as job:
        issue(streams[0])
    # Two tasks, and again when it has ended.
    await asyncio.gather(wait_for(job), wait_for(job))
    await job
    job.wait()


async def wait_for(job):
    await job


asyncio.run(together())


async def elsewhere():
    with naps.begin(streams[0]) as job:
        issue(streams[0])
    waiting = asyncio.ensure_future(wait_for(job))
    await asyncio.sleep(0)
    # A thread's wait tells of it, so that no poll does.
    await asyncio.get_running_loop().run_in_executor(None, job.wait)
    await asyncio.wait_for(waiting, 10)


asyncio.run(elsewhere())


async def unsubmitted():
    job = naps.begin(streams[0])
    try:
        await job
    except gpuos_job.Error as error:
        assert error.status == 4, error.status
    else:
        raise AssertionError("it was not submitted")
    job.cancel()


asyncio.run(unsubmitted())
# What nobody waits for is given up when it is dropped.
for _ in range(100):
    naps.begin(streams[0])
gc.collect()
stats = naps.stats()
assert (stats["begun"], stats["done"], stats["failed"]) == (139, 36, 103), stats
naps.close()
context.close()
for stream in streams:
    library.gpuos_job_host_close(ctypes.c_void_p(stream))
print("ok")
