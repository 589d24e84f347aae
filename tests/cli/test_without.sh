#!/bin/sh
# A program without its store of conversations says so where it is asked for, and runs all the same.
. tests/cli/lib.sh
program=$(dirname "$SLUICE")/sluice-without-kvstore
[ -x "$program" ] || skip "make cli builds $program"
expect 1 "$program" kv list "$scratch"
says err WITH_KVSTORE=0
expect 1 "$program" kv show "$scratch"
says err WITH_KVSTORE=0
expect 1 "$program" kv prune "$scratch"
says err WITH_KVSTORE=0
"$program" run -q -p 'Hello' --max-tokens 1 > "$scratch/run" 2>&1 || skip 'no model is built in'
expect 1 "$program" run -q --kv-dir "$scratch/kv" -p 'Hello'
says err WITH_KVSTORE=0
[ ! -e "$scratch/kv" ] || fail 'the folder was made'
expect 0 "$program" run -q -p 'What is the capital of France?'
says out Paris
