#!/bin/sh
# Conversations to prompts and answers to messages, against the reference encoder's.
. tests/cli/lib.sh
goldens=tests/data/chat/goldens.jsonl
grep '"kind": "encode"' "$goldens" > "$scratch/encode"
sed 's/.*, "expect": \(".*"\)}$/{"text": \1}/' "$scratch/encode" > "$scratch/expected"
[ "$(wc -l < "$scratch/expected")" -ge 100 ] || fail 'too few conversations'
input=$scratch/encode
expect 0 "$SLUICE" debug render
is_same "$scratch/expected" "$scratch/out"

grep '"kind": "parse"' "$goldens" > "$scratch/parse"
[ "$(wc -l < "$scratch/parse")" -ge 50 ] || fail 'too few answers'
input=$goldens
expect 0 "$SLUICE" debug parse
[ "$(wc -l < "$scratch/out")" -eq "$(wc -l < "$scratch/parse")" ] || fail 'expected a line for each answer'
# The texts agree; calls carry ids that the reference does not give.
for key in content reasoning_content; do
    sed "s/.*\"expect\": .*\"$key\": \(\"\([^\"\\\\]\|\\\\.\)*\"\).*/\1/" "$scratch/parse" > "$scratch/a"
    sed "s/.*\"$key\": \(\"\([^\"\\\\]\|\\\\.\)*\"\).*/\1/" "$scratch/out" > "$scratch/b"
    is_same "$scratch/a" "$scratch/b"
done

printf '%s\n' '{"messages": 1}' '{}' '{"messages": [], "mode": "loud"}' > "$scratch/rows"
input=$scratch/rows
expect 1 "$SLUICE" debug render
[ "$(grep -c '"error"' "$scratch/out")" -eq 3 ] || fail 'expected three errors'
