# Fences of the virtual GEM driver: waits that really block, by poll, epoll, a dma-buf's own call and a sync_file.
for options in "" "--no-latency" "-e ioctl,poll,epoll_wait,epoll_ctl" "--tasks-by-id" "--per-thread" "--sample 10"; do
    # shellcheck disable=SC2086 # several options in one word
    gpuos-trace run -q --strict $options -o /tmp/run.csv -- vgem_calls 5 >/tmp/made || { echo "FAILED: run $options"; exit 1; }
    compare /tmp/run.csv /tmp/made || { echo "FAILED: run $options"; exit 1; }
done
gpuos-trace run --driver-hooks --strict -o /tmp/run.csv -- vgem_calls 5 2>&1 && hooks /tmp/run.csv card0
