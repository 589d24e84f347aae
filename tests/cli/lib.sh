# tests/cli/lib.sh - sourced by the tests: a scratch folder, and checks that stop the test with what was expected.
# shellcheck shell=sh
set -u
: "${SLUICE:=build/sluice}" "${SYNTH:=build/synth}"
export models=tests/data/oracle
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
# A user's settings must not change what is tested.
for name in $(env | sed -n 's/^\(SLUICE_[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done
unset NO_COLOR
export XDG_STATE_HOME="$scratch/state"

fail() {
    printf '%s: %s\n' "$0" "$*"
    exit 1
}

skip() {
    printf '%s\n' "$*"
    exit 77
}

# expect STATUS COMMAND...: runs it with stdout in $scratch/out and stderr in $scratch/err.
expect() {
    wanted=$1
    shift
    "$@" > "$scratch/out" 2> "$scratch/err" < "${input:-/dev/null}"
    found=$?
    [ "$found" -eq "$wanted" ] && return
    cat "$scratch/err"
    fail "$*: expected exit status $wanted, found $found"
}

# says FILE TEXT: FILE (out or err) of the last command has the text.
says() {
    grep -qF -e "$2" "$scratch/$1" && return
    cat "$scratch/$1"
    fail "expected '$2' in std$1"
}

# is_same FILE FILE
is_same() {
    diff "$1" "$2" && return
    fail "$1 and $2 differ"
}

# The vocabulary of the model family as a file without weights, in $vocab.
unpack_vocab() {
    command -v zstd > "$scratch/which" || skip 'zstd is not installed'
    vocab=$scratch/vocab.gguf
    zstd -qdo "$vocab" tests/data/tokenizer/v4-vocab.gguf.zst || fail 'zstd'
}
