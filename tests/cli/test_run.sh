#!/bin/sh
# One prompt and its answer, with a small random model: where things are printed, and exit codes.
. tests/cli/lib.sh
model=$models/mini-a.gguf
escape=$(printf '\033')
run() { expect 0 "$SLUICE" run -m "$model" --temp 0 --max-tokens 12 "$@"; }

run -p hello --nothink
says err 'first token'
says err 'decode'
cp "$scratch/out" "$scratch/answer"
! grep -q "$escape" "$scratch/out" "$scratch/err" || fail 'escape sequences without a terminal'
# Every way to give the prompt is the same prompt.
printf 'hello\n' > "$scratch/prompt"
run -f "$scratch/prompt" --nothink
is_same "$scratch/answer" "$scratch/out"
input=$scratch/prompt
run --nothink
is_same "$scratch/answer" "$scratch/out"
run --nothink -
is_same "$scratch/answer" "$scratch/out"
run --nothink --file=-
is_same "$scratch/answer" "$scratch/out"
input=/dev/null
# Quiet is quiet; options have twins in the environment; threads and steps change nothing.
run -q -p hello --nothink
[ ! -s "$scratch/err" ] || fail '--quiet writes to stderr'
expect 0 env SLUICE_MODEL="$model" SLUICE_TEMP=0 SLUICE_MAX_TOKENS=12 SLUICE_NOTHINK=1 SLUICE_QUIET=1 "$SLUICE" run -p hello
is_same "$scratch/answer" "$scratch/out"
run -p hello --nothink --threads 2 --chunk 3
is_same "$scratch/answer" "$scratch/out"
# The same seed gives the same answer.
run -p hello --temp 1.5 --seed 7
cp "$scratch/out" "$scratch/seven"
run -p hello --temp 1.5 --seed 7
is_same "$scratch/seven" "$scratch/out"
# Text that is gone on from, without a chat.
run -p hello --raw
expect 2 "$SLUICE" run -m "$model" -p ''
# The context's end is an error before, not after.
expect 1 "$SLUICE" run -m "$model" --ctx 8 -p 'a prompt that is longer than eight tokens can be'
says err '8'

# A conversation without a terminal.
printf '%s\n' hello '/system be brief' '/system' '/nothink' "two\\" lines '"""three' 'more"""' /stats \
    "/save $scratch/chat.json" /clear "/load $scratch/chat.json" /thnk /help /quit never > "$scratch/talk"
input=$scratch/talk
run -i
says err 'be brief'
says err 'saved'
says err 'loaded'
says err 'did you mean /think'
says err '/nothink'
[ "$(stat -c %a "$scratch/chat.json")" = 600 ] || fail 'a conversation is readable by others'
grep -qF '"two\nlines"' "$scratch/chat.json" || fail 'a line that ends with a backslash goes on'
grep -qF '"three\nmore"' "$scratch/chat.json" || fail 'quoted lines are one message'
! grep -q never "$scratch/chat.json" || fail '/quit does not leave'
printf '[1]' > "$scratch/bad.json"
printf '%s\n' "/load $scratch/bad.json" > "$scratch/talk"
run -i
says err 'expected a JSON array of messages'

# Output that cannot be written.
[ ! -w /dev/full ] || {
    "$SLUICE" run -q -m "$model" -p hello --nothink --max-tokens 12 > /dev/full 2> "$scratch/err"
    [ $? -eq 1 ] || fail 'a full disk is no failure'
    says err 'standard output'
}
{ "$SLUICE" run -q -m "$model" -p hello --nothink 2> "$scratch/err"; echo $? > "$scratch/status"; } | head -c 1 > "$scratch/out"
[ "$(cat "$scratch/status")" -le 1 ] || fail "a reader that goes away: status $(cat "$scratch/status")"
[ ! -s "$scratch/err" ] || fail 'a reader that goes away is reported'

# Ctrl-C ends the answer and the program; what was printed is the beginning of the whole answer. (A background job of a shell
# ignores SIGINT; env gives it back.)
if env --default-signal=INT true 2> "$scratch/err"; then
    expect 0 "$SLUICE" run -q -m "$model" -p b --temp 0 --nothink -n 300 --backend ref
    cp "$scratch/out" "$scratch/whole"
    env --default-signal=INT timeout --preserve-status -s INT 0.4 "$SLUICE" run -q -m "$model" -p b --temp 0 --nothink -n 300 --backend ref \
        > "$scratch/out" 2> "$scratch/err"
    status=$?
    [ $status -eq 130 ] || [ $status -eq 0 ] || fail "interrupted: status $status"
    head -c -1 "$scratch/out" > "$scratch/part"
    cmp -n "$(wc -c < "$scratch/part")" "$scratch/part" "$scratch/whole" || fail 'interrupted: not the beginning of the answer'
fi
