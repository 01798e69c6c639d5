#!/usr/bin/env bash
# A plan of `study/phase1/plans/`, by default `phase1`, and its report. Run as root on a machine with an NVIDIA GPU:
#   study/phase1/h200/sweep.sh FOLDER_OF_BINARIES DATASET OUTPUT_FOLDER [SECONDS [PLAN]]
# FOLDER_OF_BINARIES has gpuos-trace (`cargo xtask dist`) and bench. With SECONDS the sweep is cut off; run it again with
# the same DATASET to go on.
set -u
here=$(dirname "$(realpath "$0")")
timeout "${4:-3600}" "$1/gpuos-trace" sweep "$here/../plans/${5:-phase1}.toml" -o "$2" --resume --bench "$1/bench"
"$1/gpuos-trace" report "$2" -o "$3"
# Many small files travel as one.
tar -C "$2" -czf "$3/dataset.tar.gz" .
