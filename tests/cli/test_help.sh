#!/bin/sh
# Help texts, and what a wrong use is told. SLUICE_WRITE_HELP=1 writes the expected texts anew.
write=${SLUICE_WRITE_HELP:-}
. tests/cli/lib.sh

check_help() {
    file=tests/data/cli/$1.txt
    shift
    expect 0 "$SLUICE" "$@"
    [ -z "$write" ] || cp "$scratch/out" "$file"
    is_same "$file" "$scratch/out"
    [ ! -s "$scratch/err" ] || fail "$*: writes to stderr"
}

check_help help --help
check_help help-debug debug --help
check_help help-debug help debug
check_help help-kv kv --help
"$SLUICE" --help | sed -n 's/^  \([a-z][a-z ]*[a-z]\)   *[a-zA-Z].*/\1/p' > "$scratch/commands"
[ "$(wc -l < "$scratch/commands")" -ge 9 ] || fail 'the list of commands is too short'
while read -r command; do
    # shellcheck disable=SC2086
    check_help "help-$(echo "$command" | tr ' ' -)" $command --help
    [ -z "$(awk 'length($0) > 80' "$scratch/out")" ] || fail "$command --help: a line of more than 80 characters"
done < "$scratch/commands"
check_help help-run help run

expect 2 "$SLUICE"
says err 'Usage: sluice COMMAND'
expect 2 "$SLUICE" rnu
says err "unknown command 'rnu'; did you mean 'run'?"
says err "Try 'sluice --help'."
expect 2 "$SLUICE" debug
says err 'debug tokenize'
expect 2 "$SLUICE" debug logit
says err "did you mean 'debug logits'?"
expect 2 "$SLUICE" --halp
says err 'unknown option --halp'

expect 2 "$SLUICE" run --tmp 1
says err 'unknown option --tmp; did you mean --temp?'
says err "Try 'sluice run --help'."
expect 2 "$SLUICE" run -Z
says err 'unknown option -Z'
expect 2 "$SLUICE" run --temp
says err '--temp: expected X after it'
expect 2 "$SLUICE" run --temp warm
says err "--temp: expected a number, found 'warm'"
expect 2 "$SLUICE" run --temp=-1
says err '--temp: expected 0 to 100'
expect 2 "$SLUICE" run --temp nan
expect 2 "$SLUICE" run --threads 1.5
says err "--threads: expected an integer, found '1.5'"
expect 2 "$SLUICE" run --threads=
expect 2 "$SLUICE" run --threads 99999999999999999999
expect 2 "$SLUICE" run --kv-memory 4X
says err '--kv-memory: expected a size such as 512M or 4G'
expect 2 "$SLUICE" run --kv-memory 9999999T
expect 2 "$SLUICE" run --kv fp4
says err "--kv: expected fp8|exact, found 'fp4'"
expect 2 "$SLUICE" run --quiet=1
says err '--quiet: takes no value'
expect 2 "$SLUICE" run --think=hard
says err "--think: expected high|max, found 'hard'"
expect 2 "$SLUICE" run tell me
says err "unexpected argument"
expect 2 "$SLUICE" run -p a -f b
says err 'expected one of'
expect 2 "$SLUICE" run --raw -i
expect 2 "$SLUICE" debug logits --out x
says err '--ids is missing'
expect 2 "$SLUICE" debug logits --ids x
says err '--out is missing'
# An option of another command is not known here.
expect 2 "$SLUICE" inspect --temp 1

# Environment twins: a wrong value is named by its variable; the command line wins.
expect 2 env SLUICE_TEMP=warm "$SLUICE" run -p a
says err "SLUICE_TEMP: expected a number, found 'warm'"
expect 3 env SLUICE_MODEL=/nonexistent "$SLUICE" inspect
says err '/nonexistent'
expect 0 env SLUICE_MODEL=/nonexistent "$SLUICE" inspect -m "$models/mini-a.gguf"
expect 0 env SLUICE_MODEL= SLUICE_TEMP= "$SLUICE" inspect "$models/mini-a.gguf"
# Options of other commands in the environment do not matter.
expect 0 env SLUICE_TEMP=warm "$SLUICE" inspect "$models/mini-a.gguf"
