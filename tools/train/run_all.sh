#!/bin/sh
# Makes the rows unless they are there, trains, quantises and writes the built-in model: tools/train/run_all.sh SECONDS OUT_DIR [DATA_DIR [PARTS]]
# Each of PARTS parts (one seed, one process) is 20,000 short rows and 1,500 long ones; SECONDS count from the end of their making.
here=$(dirname "$0")
data=${3:-.traindata}
parts=${4:-14}
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=6 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False
if [ ! -e "$data" ]; then
    rm -rf "$data.part"
    mkdir -p "$data.part"
    python3 "$here/bpe.py" rows --size probe --rows 64 --seed 100 -o "$data.part/probe" || exit 1
    pids=
    part=1
    while [ "$part" -le "$parts" ]; do
        for size in short:20000 long:1500; do
            python3 "$here/bpe.py" rows --size "${size%:*}" --rows "${size#*:}" --seed "$part" -o "$data.part/${size%:*}$part" || exit 1
        done &
        pids="$pids $!"
        part=$((part + 1))
    done
    for pid in $pids; do
        wait "$pid" || exit 1
    done
    mv "$data.part" "$data"
fi
exec python3 "$here/train.py" "$1" "$data" "$2"
