#!/usr/bin/env bash
# A plan of `study/phase1/plans/`, by default `phase1`, or the file of one, and its report. Run as root on a machine with an
# NVIDIA GPU, from the root of the repository:
#   study/phase1/h200/sweep.sh FOLDER_OF_BINARIES DATASET OUTPUT_FOLDER [SECONDS [PLAN]]
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`) and bench. With SECONDS the sweep is cut off; run it again with
# the same DATASET to go on.
set -u
here=$(dirname "$(realpath "$0")")
plan=${5:-phase1}
[ -f "$plan" ] || plan=$here/../plans/$plan.toml
mkdir -p "$3"
timeout -s INT -k 15 "${4:-3600}" "$1/gpuos-trace" sweep "$plan" -o "$2" --resume --bench "$1/bench"
"$1/gpuos-trace" report "$2" -o "$3"
# Many small files travel as one.
tar -C "$2" -czf "$3/dataset.tar.gz" .
