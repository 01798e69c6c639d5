"""A server in one thread: sockets and jobs in one asyncio loop. A client sends a byte; it gets one back when the job that the byte
began has ended. On the host runtime a job sleeps for 1 ms; with CUDA use `torch.cuda.current_stream().cuda_stream`.
  python3 examples/server.py PATH_OF_A_UNIX_SOCKET REQUESTS"""
import asyncio
import ctypes
import sys
import time

import gpuos_job

WORK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
work = WORK(lambda argument: time.sleep(0.001) or 0)


async def main(path, requests):
    library = gpuos_job._load()
    library.gpuos_job_host_launch.argtypes = [ctypes.c_void_p, WORK, ctypes.c_void_p]
    stream = ctypes.c_void_p()
    library.gpuos_job_host_open(ctypes.byref(stream))
    context = gpuos_job.Context(gpuos_job.HOST)
    jobs = context.job_class("requests")
    served, done = 0, asyncio.Event()

    async def client(reader, writer):
        nonlocal served
        while served < requests and await reader.read(1):
            with jobs.begin(stream.value) as job:
                library.gpuos_job_host_launch(stream.value, work, None)
            await job
            writer.write(b"d")
            await writer.drain()
            served += 1
            if served >= requests:
                done.set()
        writer.close()

    server = await asyncio.start_unix_server(client, path)
    print("ready", flush=True)
    await done.wait()
    server.close()
    print("served", jobs.stats()["done"], flush=True)
    jobs.close()
    context.close()
    library.gpuos_job_host_close(stream)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
