# Programs that make a known number of calls, traced in every way that the tracer has of counting.
# expect CALL NUMBER 'OPTIONS' PROGRAM…
failures=0
expect() {
    call=$1 wanted=$2 options=$3
    shift 3
    # shellcheck disable=SC2086 # several options in one word
    if ! gpuos-trace run --quiet --strict --wait-all $options --output /tmp/run.csv -- known_calls "$@" >/tmp/talk 2>&1; then
        cat /tmp/talk
        echo "FAILED: run $options -- known_calls $*"
        failures=$((failures + 1))
        return
    fi
    # Counted from the end of a row: a field before it may hold commas.
    counted=$(awk -F, -v call="$call" '!/^#/ && $8 == call { sum += $(NF - 10) } END { print sum + 0 }' /tmp/run.csv)
    echo "$wanted $call made, $counted counted: run $options -- known_calls $*"
    [ "$counted" = "$wanted" ] || failures=$((failures + 1))
}
expect getppid 20000 '' getppid 20000
expect ioctl 5000 '' ioctl 5000
expect getppid 12000 '' threads 3000 4
expect getppid 62 '' nested-threads 30
expect getppid 300 '' forks 100
expect getppid 252 '' tree 3 4
expect getppid 55 '' exec-chain 10
expect getppid 7 '' exec-from-thread
expect execve 11 '' vfork 10
expect nanosleep 3 '' interrupted 3
expect getppid 9 '' daemon 9
expect getppid 40 '' refused 40
expect compat_64 500 '' compat 500
# The slower path, without times, by the tracepoints of single calls.
expect getppid 1000 '--rows 16' getppid 1000
expect getppid 300 '--no-latency' forks 100
expect getppid 12000 '--sample 10' threads 3000 4
expect ioctl 5000 '--events ioctl' ioctl 5000
expect getppid 300 '--events getppid' forks 100
echo "$failures wrong"
[ "$failures" = 0 ]
