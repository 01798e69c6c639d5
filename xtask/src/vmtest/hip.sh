# AMD's real HIP runtime, as `bench` loads it, on the real amdkfd driver without a GPU: it finds no device, says so, and
# what it asked of the driver is seen.
export LD_LIBRARY_PATH=/rocr
gpuos-trace run -q --strict -o /tmp/run.csv -- bench alloc --backend hip --iters 3 >/tmp/out 2>&1
status=$?
cat /tmp/out
[ "$status" = 1 ] || { echo "FAILED: exit status $status"; exit 1; }
grep "hipErrorNoDevice.*libamdhip64.so.5" /tmp/out >/dev/null || { echo "FAILED: another message"; exit 1; }
compare /tmp/run.csv /dev/null >/dev/null
cat /tmp/counted
case $(uname -r) in
7.*)
    # Since 7.0 the driver cannot be opened without a GPU.
    [ ! -s /tmp/counted ]
    ;;
*)
    grep -x "kfd AMDKFD_IOC_GET_VERSION 1 0 0" /tmp/counted
    ;;
esac
