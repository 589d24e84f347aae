#!/bin/sh
# What a file holds, without loading it; files that are no models.
. tests/cli/lib.sh
expect 0 "$SLUICE" inspect "$models/mini-a.gguf"
says out 'layers      6 (in this file: 0-5)'
says out 'experts     2 of 8 per token, 32 wide; 2 layers choose by token'
says out 'attention   2 window only, 2 with ratio 4, 2 with ratio 128'
says out 'blk.2.attn_compressor_kv.weight'
says out 'a run needs'
! grep -q 'cannot run' "$scratch/out" || fail 'a whole model is said to be unusable'

expect 0 "$SLUICE" inspect --json -m "$models/mini-a.gguf" --ctx 1K
says out '"ratios": [0, 0, 4, 128, 4, 128]'
says out '"context": 1024'
[ "$(wc -l < "$scratch/out")" -eq 1 ] || fail '--json: expected one line'
# More context takes more memory, and exact rows more than fp8.
total() { sed 's/.*"kv_total": \([0-9]*\).*/\1/' "$scratch/out"; }
small=$(total)
expect 0 "$SLUICE" inspect --json -m "$models/mini-a.gguf" --ctx 4K
[ "$(total)" -gt "$small" ] || fail 'memory does not grow with the context'
large=$(total)
expect 0 "$SLUICE" inspect --json -m "$models/mini-a.gguf" --ctx 4K --kv exact
[ "$(total)" -gt "$large" ] || fail 'exact rows take no more than fp8'

# A file with some of the tensors, and an MTP block.
expect 0 "$SLUICE" inspect "$models/fmt-mx.gguf"
says out 'cannot run  a slice: blk.0.attn_norm.weight is not in it'
expect 0 "$SLUICE" inspect "$models/mini-mtp.mtp.gguf"
says out 'cannot run  an MTP block'
says out 'draft block yes (MTP)'

# Files that cannot be read are the model's fault: status 3 and a message that says what is wrong.
expect 3 "$SLUICE" inspect /nonexistent.gguf
says err '/nonexistent.gguf'
expect 3 "$SLUICE" inspect tests/data/oracle/README.md
says err 'GGUF'
expect 3 "$SLUICE" inspect /dev/null
for size in 4 20 100 5000 40000; do
    head -c "$size" "$models/mini-a.gguf" > "$scratch/cut.gguf"
    expect 3 "$SLUICE" inspect "$scratch/cut.gguf"
    expect 3 "$SLUICE" run -m "$scratch/cut.gguf" -p a
    says err "$scratch/cut.gguf"
done
# 2^64 - 1 tensors, keys; a name that is not UTF-8.
printf 'GGUF\003\000\000\000\377\377\377\377\377\377\377\377\000\000\000\000\000\000\000\000' > "$scratch/huge.gguf"
expect 3 "$SLUICE" inspect "$scratch/huge.gguf"
printf 'GGUF\003\000\000\000\000\000\000\000\000\000\000\000\377\377\377\377\377\377\377\377' > "$scratch/huge.gguf"
expect 3 "$SLUICE" inspect "$scratch/huge.gguf"
{
    printf 'GGUF\003\000\000\000\000\000\000\000\000\000\000\000\001\000\000\000\000\000\000\000'
    printf '\014\000\000\000\000\000\000\000general.name\010\000\000\000\004\000\000\000\000\000\000\000\377\033[m'
} > "$scratch/name.gguf"
expect 0 "$SLUICE" inspect "$scratch/name.gguf"
says out 'cannot run'
! grep -q "$(printf '\033')" "$scratch/out" || fail 'an escape sequence out of a file reaches the terminal'
