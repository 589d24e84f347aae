#!/bin/sh
# The example of the library, against the built-in model.
. tests/cli/lib.sh
"$SLUICE" inspect > "$scratch/out" 2> "$scratch/err" || skip 'this build has no built-in model'
expect 0 "$(dirname "$SLUICE")/examples/hello"
says out 'Paris'
expect 1 "$(dirname "$SLUICE")/examples/hello" /nonexistent.gguf
says err '/nonexistent.gguf'
