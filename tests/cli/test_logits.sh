#!/bin/sh
# `debug logits` and `debug draft` against logits from a float64 implementation (tests/support/oracle.h has the layout).
. tests/cli/lib.sh

# compare ORACLE LOGITS LIMIT: medians of the rows' largest differences.
compare() {
    # shellcheck disable=SC2046
    set -- "$@" $(od -An -v -tu4 -j4 -N32 "$1" | tr -s ' \n' ' ')
    magic=$(head -c 4 "$1")
    step=1
    [ "$magic" = V4OS ] && step=${11}
    skip=32
    [ "$magic" = V4OS ] && skip=36
    columns=$((($6 + step - 1) / step))
    od -An -v -tf4 -w4 -j$((skip + 4 * $5)) -N$((4 * $5 * columns)) "$1" > "$scratch/expected"
    od -An -v -tf4 -w$((4 * $6)) "$2" |
        awk -v step="$step" '{ for (i = 1; i <= NF; i += step) print $i }' > "$scratch/found"
    [ "$(wc -l < "$scratch/expected")" -eq "$(wc -l < "$scratch/found")" ] ||
        fail "$2: expected $5 rows of $6 logits"
    paste "$scratch/expected" "$scratch/found" |
        awk -v n="$columns" '
            { d = $1 - $2; if (d < 0) d = -d; if (!(d <= worst)) worst = d }
            NR % n == 0 { print worst; worst = 0 }' | sort -g > "$scratch/rows"
    median=$(awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }' "$scratch/rows")
    awk -v m="$median" -v limit="$3" 'BEGIN { exit !(m < limit) }' ||
        fail "$2: median difference $median, expected less than $3"
}

# ids ORACLE COUNT_SKIPPED: its token ids in $scratch/ids.
ids() {
    # shellcheck disable=SC2046
    set -- "$1" $(od -An -v -tu4 -j8 -N4 "$1")
    skip=32
    [ "$(head -c 4 "$1")" = V4OS ] && skip=36
    dd if="$1" of="$scratch/ids" bs=4 skip=$((skip / 4)) count="$2" 2> "$scratch/dd.log" || fail dd
}

for name in mini-a mini-b fmt-q2; do
    ids "$models/$name.oracle"
    expect 0 "$SLUICE" debug logits -m "$models/$name.gguf" --ids "$scratch/ids" --out "$scratch/ref" --kv exact --backend ref
    compare "$models/$name.oracle" "$scratch/ref" 0.001
    expect 0 "$SLUICE" debug logits -m "$models/$name.gguf" --ids "$scratch/ids" --out "$scratch/fp8" --kv fp8 --backend ref
    compare "$models/$name.fp8.oracle" "$scratch/fp8" 0.005
    # The same bytes whatever the steps and threads are.
    expect 0 "$SLUICE" debug logits -m "$models/$name.gguf" --ids "$scratch/ids" --out "$scratch/one" --kv exact --backend ref \
        --chunk 7 --threads 2
    cmp "$scratch/ref" "$scratch/one" || fail "$name: logits depend on the steps"
done

ids "$models/mini-mtp.oracle"
expect 0 "$SLUICE" debug draft -m "$models/mini-mtp.gguf" --mtp "$models/mini-mtp.mtp.gguf" --ids "$scratch/ids" \
    --out "$scratch/draft" --kv exact --backend ref
compare "$models/mini-mtp.mtp.oracle" "$scratch/draft" 0.001
expect 1 "$SLUICE" debug draft -m "$models/mini-a.gguf" --ids "$scratch/ids" --out "$scratch/draft"
says err 'MTP'

printf 'abc' > "$scratch/ids"
expect 1 "$SLUICE" debug logits -m "$models/mini-a.gguf" --ids "$scratch/ids" --out "$scratch/x"
says err 'expected 4-byte token ids'
printf '\377\377\377\177' > "$scratch/ids"
expect 1 "$SLUICE" debug logits -m "$models/mini-a.gguf" --ids "$scratch/ids" --out "$scratch/x"
printf '\001\000\000\000' > "$scratch/ids"
expect 1 "$SLUICE" debug logits -m "$models/mini-a.gguf" --ids "$scratch/ids" --out /nonexistent/x
says err '/nonexistent/x'
expect 2 "$SLUICE" debug logits -m "$models/mini-a.gguf" --ids "$scratch/ids" --out "$scratch/x" --backend abacus
