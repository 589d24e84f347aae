#!/bin/sh
# What is shown on a terminal only: colours, and none with NO_COLOR; the history of lines; Ctrl-C. Each key is typed when
# what it answers is on the screen.
. tests/cli/lib.sh
command expect -v > "$scratch/which" 2>&1 || skip 'expect is not installed'
model=$models/mini-a.gguf
escape=$(printf '\033')

# on_terminal SCRIPT ARGUMENT...: the program on a terminal of its own, typed at by the Tcl of SCRIPT; the screen goes to out.
on_terminal() {
    script=$1
    shift
    { cat <<'TCL'
set timeout 20
proc sees {pattern} {
    expect {
        -re $pattern {}
        timeout { puts "\nexpected $pattern, found nothing more"; exit 98 }
        eof { puts "\nexpected $pattern, found the end"; exit 99 }
    }
}
proc leaves {} {
    expect eof
    exit [lindex [wait] 3]
}
set env(TERM) xterm
spawn {*}$argv
TCL
        printf '%s\n' "$script"
    } > "$scratch/typing"
    command expect "$scratch/typing" "$SLUICE" run -m "$model" --temp 0 --nothink "$@" > "$scratch/out" 2>&1 ||
        fail "a conversation on a terminal fails: $(cat "$scratch/out")"
}

# shellcheck disable=SC2016
talk='sees "> "; send "hello\r"; sees "first token"; sees "> "; send "\004"; leaves'
on_terminal "$talk" --max-tokens 4
grep -q "$escape\[2m" "$scratch/out" || fail 'nothing is dimmed on a terminal'
[ "$(cat "$XDG_STATE_HOME/sluice/history")" = hello ] || fail 'the history is not kept'
[ "$(stat -c %a "$XDG_STATE_HOME/sluice/history")" = 600 ] || fail 'the history is readable by others'

# Ctrl-C ends the answer, not the conversation; at the prompt it drops the line.
on_terminal 'sees "> "; send "b\r"; sees "b\r\n\[^b>\]"; send "\003"; sees "first token"; sees "> "
send "junk"; sees "junk"; send "\003"; sees "> "; send "/stats\r"; sees "KV memory"; sees "> "; send "\004"; leaves' --backend ref
says out 'KV memory'

export NO_COLOR=1
on_terminal "$talk" --max-tokens 4
! grep -q "$escape\[2m" "$scratch/out" || fail 'colours in spite of NO_COLOR'
