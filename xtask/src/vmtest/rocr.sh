# AMD's real runtime on the real amdkfd driver, without a GPU.
# The interrupt path is what makes it ask the driver to wait; the runtime says on stdout what it misses.
export LD_LIBRARY_PATH=/rocr
case $(uname -r) in
7.*)
    # Since 7.0 the driver has no device without a GPU: HSA_STATUS_ERROR_OUT_OF_RESOURCES.
    gpuos-trace run -q -o /tmp/run.csv -- hsa_calls 1 2>&1 | grep "hsa_init: 0x1008"
    exit
    ;;
esac
rounds=5
for options in "" "--no-latency" "--tasks-by-id" "-e ioctl"; do
    # shellcheck disable=SC2086 # several options in one word
    gpuos-trace run -q --strict $options -o /tmp/run.csv -- hsa_calls $rounds || { echo "FAILED: run $options"; exit 1; }
    compare /tmp/run.csv /dev/null >/dev/null
    cat /tmp/counted
    # Every wait of the application is for all of its (one) events; one of them runs into its time.
    for line in "SET_EVENT $rounds 0 0" "WAIT_EVENTS/all events $((rounds + 1)) 0 1" "CREATE_EVENT/signal 1 0 0" \
        "DESTROY_EVENT 1 0 0" "GET_VERSION 1 0 0"; do
        grep -x "kfd AMDKFD_IOC_$line" /tmp/counted >/dev/null || { echo "FAILED: run $options: no $line"; exit 1; }
    done
done
gpuos-trace run --driver-hooks --strict -o /tmp/run.csv -- hsa_calls $rounds 2>&1 && hooks /tmp/run.csv kfd
