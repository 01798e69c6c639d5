# The fake nodes of NVIDIA's driver, with the layouts of several versions.
counted() {
    # shellcheck disable=SC2086 # several options in one word
    gpuos-trace run -q --strict --nvidia-driver "$1" $2 -o /tmp/run.csv -- fake_nvidia call "$1" 20 >/tmp/made &&
        compare /tmp/run.csv /tmp/made || { echo "FAILED: $1, run $2"; exit 1; }
}
begin() {
    fake_nvidia serve "$1" &
    server=$!
    until [ -c /dev/nvidiactl ] && [ -c /dev/nvidia0 ] && [ -c /dev/nvidia-uvm ]; do usleep 20000; done
}
end() {
    kill $server
    wait $server 2>/dev/null
    while [ -c /dev/nvidia-uvm ]; do usleep 20000; done
}
for version in 515.43.04 525.147.05 580.159.04 590.48.01; do
    begin $version
    for options in "" "--no-latency" "-e ioctl" "--tasks-by-id"; do
        counted $version "$options"
    done
    end
done
# A kernel that shows no type information.
mount -t tmpfs none /sys/kernel/btf
begin 580.159.04
for options in "" "--no-latency" "-e ioctl"; do
    counted 580.159.04 "$options"
done
end
