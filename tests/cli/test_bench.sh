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
expect 0 "$@" --pin on --csv "$scratch/c.csv"
[ "$(hashes "$scratch/a.csv")" = "$(hashes "$scratch/c.csv")" ] || fail 'the logits of pinned threads differ'
expect 2 "$SLUICE" bench -m "$model" --pin sometimes
says err 'expected auto|on|off'
expect 2 "$SLUICE" bench -m "$model" --frontiers 40,5
expect 2 "$SLUICE" bench -m "$model" --frontiers x
expect 2 "$SLUICE" bench -m "$model" --frontiers 5,6 --decode 9
expect 1 "$@" --csv /nonexistent/a.csv

# A random past: nothing is read, decoding goes on after it, the same on any number of threads.
expect 0 "$SLUICE" bench -m "$model" --frontiers 100,600 --decode 3 --random-past --csv "$scratch/p.csv"
grep -q '^600,0,0.000000,0.000,3,0*[.0-9]*[1-9]' "$scratch/p.csv" || fail 'expected three decoded tokens and no prefill'
expect 0 "$SLUICE" bench -m "$model" --frontiers 100,600 --decode 3 --random-past --threads 1 --csv "$scratch/q.csv"
[ "$(hashes "$scratch/p.csv")" = "$(hashes "$scratch/q.csv")" ] || fail 'the logits after a random past differ'
[ "$(hashes "$scratch/p.csv" | sort -u | wc -l)" -eq 2 ] || fail 'expected other logits at another context'

# Each op alone: every one that a step has, each with a time.
expect 0 "$SLUICE" bench --ops -m "$model" --threads 2 --csv "$scratch/ops.csv"
says out 'custom'
for op in matvec product head experts embed 'hyper gather' 'hyper spread' 'hyper head' norm 'query norm' router \
    'projections /4' 'projections /128' 'rope table' 'KV encode' 'index query' 'index select' 'compress /4' \
    'compress /128' 'attention /0' 'attention /4' 'attention /128'; do
    says out "$op  "
    grep -q "^$op,.*,2," "$scratch/ops.csv" || fail "$op is missing in the CSV"
done
for type in F32 F16 BF16 Q8_0 Q4_0 IQ4_NL MXFP4 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS IQ3_S IQ3_XXS IQ2_S IQ2_XS IQ2_XXS IQ1_S; do
    grep -q "^matvec,\"$type\",1,0*\.[0-9]*[1-9]" "$scratch/ops.csv" || fail "no time of $type"
done
grep -q '^index select,"32768 tokens",1,' "$scratch/ops.csv" || fail 'the longest context is missing'
grep -q 'nan\|inf' "$scratch/ops.csv" && fail 'a number is not one'
expect 2 "$SLUICE" bench --ops --svg "$scratch/ops.svg"
expect 3 "$SLUICE" bench --ops -m /nonexistent
expect 2 "$SLUICE" bench --ops -m "$model" --isa none
expect 1 "$SLUICE" bench --ops -m "$model" --csv /nonexistent/a.csv
