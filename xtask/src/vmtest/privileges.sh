# An ordinary user who holds CAP_PERFMON (38) and CAP_BPF (39), and none of them.
as_user() {
    capabilities=$1
    shift
    # By its path: the shell has a program of this name of its own.
    /bin/setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps "$capabilities" --ambient-caps "$capabilities" \
        --bounding-set "$capabilities" "$@" 2>&1
}
says() {
    echo "$output"
    echo "$output" | grep -q "$1" || { echo "FAILED: no word of: $1"; exit 1; }
}
output=$(as_user -all gpuos-trace run --backend bpf -- true)
[ $? = 125 ] || exit 1
says "CAP_BPF and CAP_PERFMON"
case $(uname -r) in
5.10.*)
    output=$(as_user -all,+cap_38,+cap_39 gpuos-trace run --backend bpf -- true)
    [ $? = 125 ] || exit 1
    says "trace file system"
    chmod -R o+rX /sys/kernel/tracing
    # Maps count as locked memory, of which this user may have 64 KiB; the error is that of a missing capability.
    output=$(as_user -all,+cap_38,+cap_39 gpuos-trace run --backend bpf -- true)
    [ $? = 125 ] || exit 1
    says "raise the limit"
    ulimit -l unlimited
    # Debian's kernel.perf_event_paranoid of 3 keeps perf's tracepoints for root.
    output=$(as_user -all,+cap_38,+cap_39 gpuos-trace run --backend bpf -- true)
    [ $? = 125 ] || exit 1
    says "wants root"
    exit 0
    ;;
esac
output=$(as_user -all,+cap_38,+cap_39 gpuos-trace run --top 3 -- known_calls getppid 500)
[ $? = 0 ] || { echo "$output"; exit 1; }
says "getppid .* 500 "
