# Says what is missing, by `check` and by `run`, and does not run the command.
gpuos-trace check --json
[ $? = 1 ] || exit 1
gpuos-trace check
gpuos-trace run -- touch /tmp/ran
[ $? = 125 ] || exit 1
[ ! -e /tmp/ran ]
