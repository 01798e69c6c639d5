# The test double of NVIDIA's nodes, with the layouts of several versions.
for version in 515.43.04 525.147.05 580.159.04 590.48.01; do
    nvidia_double serve $version &
    server=$!
    until [ -c /dev/nvidiactl ] && [ -c /dev/nvidia0 ] && [ -c /dev/nvidia-uvm ]; do usleep 20000; done
    for options in "" "--no-latency" "-e ioctl" "--tasks-by-id"; do
        # shellcheck disable=SC2086 # several options in one word
        gpuos-trace run -q --strict --nvidia-driver $version $options -o /tmp/run.csv -- nvidia_double call $version 20 >/tmp/made ||
            { echo "FAILED: $version, run $options"; exit 1; }
        compare /tmp/run.csv /tmp/made || { echo "FAILED: $version, run $options"; exit 1; }
    done
    kill $server
    wait $server 2>/dev/null
    while [ -c /dev/nvidia-uvm ]; do usleep 20000; done
done
