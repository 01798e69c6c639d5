# Losses that only some kernels or drivers can be made to have; each is counted, shown, and fails `--strict`.
lost() {
    grep "LOST: " /tmp/talk && grep -q "events were lost" /tmp/talk
}
# Threads by number, in a table for two.
gpuos-trace run --strict --tasks-by-id --threads 2 -- known_calls nested-threads 30 >/dev/null 2>/tmp/talk
[ $? = 125 ] && lost || { cat /tmp/talk; echo "FAILED: threads"; exit 1; }
# Objects of NVIDIA's driver, in a table for one.
fake_nvidia serve 580.159.04 &
until [ -c /dev/nvidiactl ] && [ -c /dev/nvidia0 ] && [ -c /dev/nvidia-uvm ]; do usleep 20000; done
gpuos-trace run --strict --nvidia-driver 580.159.04 --objects 1 -- fake_nvidia call 580.159.04 5 >/dev/null 2>/tmp/talk
[ $? = 125 ] && lost || { cat /tmp/talk; echo "FAILED: objects"; exit 1; }
case $(uname -r) in
7.*)
    # Inside a pid namespace programs are preemptible on this kernel, and skipped when one was.
    for turn in 1 2 3 4 5 6 7 8 9 10; do
        unshare -p -f -m sh -c 'mount -t proc proc /proc; gpuos-trace run --strict -- known_calls threads 3000 4' >/dev/null 2>/tmp/talk
        lost && exit 0
    done
    echo "FAILED: no event was missed in ten runs"
    exit 1
    ;;
esac
