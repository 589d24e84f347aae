#!/bin/sh
# What is shown on a terminal only: colours, and none with NO_COLOR; the history of lines.
. tests/cli/lib.sh
command -v script > "$scratch/which" || skip 'script is not installed'
model=$models/mini-a.gguf
escape=$(printf '\033')
# talk: types lines into a conversation on a terminal of its own.
talk() {
    { sleep 1; printf 'hello\r'; sleep 2; printf '\004'; sleep 1; } |
        TERM=xterm timeout 30 script -qec "$SLUICE run -m $model --temp 0 --max-tokens 4 --nothink" "$scratch/typescript" \
            > "$scratch/out" 2>&1 || fail "a conversation on a terminal fails: $(cat "$scratch/out")"
}
talk
says out 'first token'
grep -q "$escape\[2m" "$scratch/out" || fail 'nothing is dimmed on a terminal'
[ "$(cat "$XDG_STATE_HOME/sluice/history")" = hello ] || fail 'the history is not kept'
[ "$(stat -c %a "$XDG_STATE_HOME/sluice/history")" = 600 ] || fail 'the history is readable by others'

# Ctrl-C ends the answer, not the conversation; at the prompt it drops the line.
{ sleep 1; printf 'b\r'; sleep 1; printf '\003'; sleep 1; printf 'junk\003'; sleep 1; printf '/stats\r'; sleep 1; printf '\004'; sleep 1; } |
    TERM=xterm timeout 30 script -qec "$SLUICE run -m $model --temp 0 --nothink --backend ref" "$scratch/typescript" > "$scratch/out" 2>&1 ||
    fail "Ctrl-C ends a conversation: $(cat "$scratch/out")"
says out 'KV memory'

export NO_COLOR=1
talk
! grep -q "$escape\[2m" "$scratch/out" || fail 'colours in spite of NO_COLOR'
