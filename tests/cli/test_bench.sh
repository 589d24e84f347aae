#!/bin/sh
# `sluice bench`: the table, the files, the same hashes again, wrong use. Speeds are not looked at.
. tests/cli/lib.sh
model=$models/mini-a.gguf
set -- "$SLUICE" bench -m "$model" --frontiers 5,40 --decode 3 --kv exact
expect 0 "$@" --profile --csv "$scratch/a.csv" --svg "$scratch/a.svg"
says out 'of read'
says out 'experts'
[ "$(wc -l < "$scratch/a.csv")" -eq 3 ] || fail 'expected a heading and two rows'
grep -q '^40,32,' "$scratch/a.csv" || fail 'expected 32 tokens of prefill before 40'
grep -q '</svg>' "$scratch/a.svg" || fail 'the plot does not end'
hashes() {
    awk -F, 'NR > 1 { print $10 }' "$1"
}
# Threads and chunks change nothing.
expect 0 "$@" --threads 1 --chunk 7 --csv "$scratch/b.csv"
[ "$(hashes "$scratch/a.csv")" = "$(hashes "$scratch/b.csv")" ] || fail 'the logits differ'
expect 2 "$SLUICE" bench -m "$model" --frontiers 40,5
expect 2 "$SLUICE" bench -m "$model" --frontiers x
expect 2 "$SLUICE" bench -m "$model" --frontiers 5,6 --decode 9
expect 1 "$@" --csv /nonexistent/a.csv
