#!/bin/sh
# Text to ids and back, over the vocabulary of the model family and texts with known ids.
. tests/cli/lib.sh
unpack_vocab
sed 's/.*"ids": \(\[[0-9, ]*\]\)}$/{"ids": \1}/' tests/data/tokenizer/goldens.jsonl > "$scratch/ids"
sed 's/, "ids": \[[0-9, ]*\]}$/}/' tests/data/tokenizer/goldens.jsonl > "$scratch/texts"

input=tests/data/tokenizer/goldens.jsonl
expect 0 "$SLUICE" debug tokenize -m "$vocab"
is_same "$scratch/ids" "$scratch/out"
input=$scratch/ids
expect 0 "$SLUICE" debug detokenize -m "$vocab"
is_same "$scratch/texts" "$scratch/out"

# A wrong row is answered in its place, the others too.
printf '%s\n' '{"text": "a"}' '{"txt": 1}' 'no json' '' '{"text": 5}' '{"text": "b"}' > "$scratch/rows"
input=$scratch/rows
expect 1 "$SLUICE" debug tokenize -m "$vocab"
[ "$(grep -c '"ids"' "$scratch/out")" -eq 2 ] || fail 'expected two answers'
[ "$(grep -c '"error": "line [235]:' "$scratch/out")" -eq 3 ] || fail 'expected three errors with their lines'
tail -n 1 "$scratch/out" | grep -q '"ids"' || fail 'answers are not in order'
printf '%s\n' '{"ids": [0, 129280]}' '{"ids": [-1]}' '{"ids": ["a"]}' '{"ids": []}' > "$scratch/rows"
expect 1 "$SLUICE" debug detokenize -m "$vocab"
[ "$(grep -c '"error"' "$scratch/out")" -eq 3 ] || fail 'expected three errors'
# Protocol tokens as text.
printf '%s\n' '{"text": "<think>"}' > "$scratch/rows"
expect 0 "$SLUICE" debug tokenize -m "$vocab"
says out '{"ids": [128821]}'
expect 0 "$SLUICE" debug tokenize --plain -m "$vocab"
! grep -q 128821 "$scratch/out" || fail '--plain still forms protocol tokens'
