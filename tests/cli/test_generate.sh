#!/bin/sh
# Many conversations at once: in order, and as each alone.
. tests/cli/lib.sh
model=$models/mini-a.gguf
for i in 1 2 3 4 5 6; do
    printf '{"messages": [{"role": "user", "content": "question %d"}], "max_tokens": %d, "seed": %d, "temperature": 1}\n' $i $((i * 3)) $i
done > "$scratch/rows"
input=$scratch/rows
expect 0 "$SLUICE" debug generate -m "$model" --parallel 6
sed 's/"cached_tokens": [0-9]*/"cached_tokens": 0/' "$scratch/out" > "$scratch/many"
expect 0 "$SLUICE" debug generate -m "$model" --parallel 1
sed 's/"cached_tokens": [0-9]*/"cached_tokens": 0/' "$scratch/out" > "$scratch/single"
is_same "$scratch/many" "$scratch/single"
[ "$(grep -c '"finish": "length"\|"finish": "stop"' "$scratch/many")" -eq 6 ] || fail 'expected six answers'
grep -q '"completion_tokens": 18' "$scratch/many" || grep -q '"finish": "stop"' "$scratch/many" || fail 'max_tokens is not kept'

printf '%s\n' '{"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}' '{"messages": 1}' 'no' \
    '{"messages": [{"role": "user", "content": "a"}], "temperature": -1}' \
    '{"messages": [{"role": "user", "content": "a"}], "max_tokens": 2, "thinking": true}' > "$scratch/rows"
expect 1 "$SLUICE" debug generate -m "$model"
[ "$(grep -c '"error": "line [234]' "$scratch/out")" -eq 3 ] || fail 'expected three errors'
tail -n 1 "$scratch/out" | grep -q '"finish"' || fail 'the last row is not answered'
