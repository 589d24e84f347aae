#!/bin/sh
# Trains, quantises and writes the built-in model: tools/train/run_all.sh SECONDS OUT_DIR [DATA_DIR]
# DATA_DIR holds short*.xz and long*.xz (tools/train/README.md says how they are made).
here=$(dirname "$0")
data=${3:-.traindata}
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=6 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False
exec python3 "$here/train.py" "$1" "$data" "$2"
