# The real amdkfd driver without a GPU.
case $(uname -r) in
7.*)
    # Since 7.0 the driver has no device without a GPU.
    gpuos-trace run -q --strict -o /tmp/run.csv -- kfd_calls 1 2>&1 | grep "Invalid argument"
    exit
    ;;
esac
[ -c /dev/kfd ] || { echo "no /dev/kfd"; exit 1; }
counted() {
    # shellcheck disable=SC2086 # several options in one word
    gpuos-trace run -q --strict $1 -o /tmp/run.csv -- kfd_calls 100 >/tmp/made && compare /tmp/run.csv /tmp/made || { echo "FAILED: run $1"; exit 1; }
}
for options in "" "--no-latency" "-e ioctl" "--tasks-by-id" "--per-thread"; do
    counted "$options"
done
gpuos-trace check --json | grep kfd_ioctl || { echo "FAILED: check does not know kfd_ioctl"; exit 1; }
for options in "" "-e ioctl" "--tasks-by-id"; do
    # shellcheck disable=SC2086 # several options in one word
    gpuos-trace run -q --strict --driver-hooks $options -o /tmp/run.csv -- kfd_calls 100 >/tmp/made || { echo "FAILED: run --driver-hooks $options"; exit 1; }
    compare /tmp/run.csv /tmp/made && hooks /tmp/run.csv kfd || { echo "FAILED: run --driver-hooks $options"; exit 1; }
    grep '"name":"kfd_ioctl"' /tmp/run.csv | grep '"outside":0' >/dev/null || { echo "FAILED: outside"; exit 1; }
done
gpuos-trace run --driver-hooks --top 6 -- kfd_calls 1000 2>&1 | tail -n 25
# Phases that nobody marked: the first call on the device ends what was before.
gpuos-trace run -q --strict --auto-phases -o /tmp/run.csv -- kfd_calls 100 >/dev/null
for row in 'before the GPU,native,[0-9]*,execve' 'set-up,native,[0-9]*,ioctl'; do
    grep -q "$row" /tmp/run.csv || { echo "FAILED: no row $row"; exit 1; }
done
grep -q 'before the GPU,native,[0-9]*,ioctl,kfd' /tmp/run.csv && { echo "FAILED: a call on the device before it"; exit 1; }
# What tracing adds, to be read and not judged: the machine is emulated.
for what in getppid kfd kfd-argument; do
    echo "$what $(call_loops $what) $(gpuos-trace run -q -- call_loops $what)" >>/tmp/times
done
awk '{ added = $3 - $2; if (!first) first = added; printf "%s: bare %.0f ns, traced +%.0f ns, %.2f of a traced getppid\n", $1, $2, added, added / first }' /tmp/times
# A kernel that shows no type information.
mount -t tmpfs none /sys/kernel/btf
for options in "" "--no-latency" "-e ioctl"; do
    counted "$options"
done
gpuos-trace run -q -o /tmp/run.csv -- known_calls compat 7 || exit 1
grep -q ',compat_64,.*,7,' /tmp/run.csv || { echo "FAILED: 32-bit calls"; grep compat /tmp/run.csv; exit 1; }
grep -q '"fallback: this kernel shows no type information' /tmp/run.csv || { echo "FAILED: not said"; exit 1; }
