#!/bin/sh
. tests/cli/lib.sh
expect 0 "$SLUICE" --version
grep -qE '^sluice [0-9]+\.[0-9]+\.[0-9]+ \([^)]+\)$' "$scratch/out" || fail "version: $(head -n 1 "$scratch/out")"
[ "$(wc -l < "$scratch/out")" -ge 2 ] || fail 'the processor is not named'
[ ! -s "$scratch/err" ] || fail 'writes to stderr'
