#!/bin/sh
# The built-in model, where the build has one.
. tests/cli/lib.sh
"$SLUICE" inspect > "$scratch/out" 2> "$scratch/err" || skip 'this build has no built-in model'
expect 0 "$SLUICE" run -p 'Hello!'
says err 'using the built-in model'
[ -s "$scratch/out" ] || fail 'no answer'
cp "$scratch/out" "$scratch/first"
# Greedy by default: the same again.
expect 0 "$SLUICE" run -q -p 'Hello!'
is_same "$scratch/first" "$scratch/out"
