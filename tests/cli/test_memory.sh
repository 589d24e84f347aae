#!/bin/sh
# A plan that does not fit is refused with its arithmetic, before anything is loaded.
. tests/cli/lib.sh
expect 4 "$SLUICE" run -m "$models/mini-a.gguf" --kv-memory 1K -p hello
says err 'MiB available'
