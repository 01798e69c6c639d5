# What the scripts here share: FOLDER_OF_BINARIES OUTPUT_FOLDER [STRACE_LIBRARY_FOLDER], strace, and on what it ran.
mkdir -p "$2"
bin=$(realpath "$1") out=$(realpath "$2") lib=${3:+$(realpath "$3")}
trace="$bin/gpuos-trace"

# strace alone gets its own libraries; the traced program has the environment that it has under us.
before=${LD_LIBRARY_PATH-}
under_strace() {
    local log=$1
    shift
    env ${lib:+LD_LIBRARY_PATH="$lib"} "$bin/strace" ${lib:+-E LD_LIBRARY_PATH="$before"} -f -c -U name,calls,errors -o "$log" "$@"
}

{
    uname -srm
    head -1 /proc/driver/nvidia/version
    grep -i nvidia /proc/devices
    nvidia-smi -L | sed 's/ (UUID.*//'
    nproc
    python3 -c 'import torch, torchvision; print("torch", torch.__version__, "cuda", torch.version.cuda, "torchvision", torchvision.__version__)'
    "$trace" --version
} >"$out/environment.txt" 2>&1
