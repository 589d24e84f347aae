#!/bin/sh
# Real clients against a scripted server and against the built-in model. They come from npm once, into a folder of the user's cache, and
# are skipped without it.
# usage: run.sh [PATH_OF_SLUICE]
set -u
sluice=$(realpath "${1:-build/sluice}")
here=$(realpath "$(dirname "$0")")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice-clients
command -v npm > /dev/null || { echo 'clients: skipped, npm is not installed'; exit 0; }
scratch=$(mktemp -d) || exit 1
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$scratch"' EXIT
. "$here/install.sh"
install_clients clients openai @anthropic-ai/sdk ai @ai-sdk/openai @ai-sdk/openai-compatible @ai-sdk/anthropic zod @openai/codex \
    @anthropic-ai/claude-code opencode-ai @mariozechner/pi-coding-agent || exit 0
status=0

# start NAME ARGS...: a server; $url and $port are where, $scratch/NAME.trace has its answers.
start() {
    trace=$scratch/$1.trace
    shift
    rm -f "$scratch/out"
    "$sluice" serve --port 0 --trace "$trace" "$@" > "$scratch/out" 2> "$scratch/err" &
    server=$!
    until grep -q '^listening' "$scratch/out" 2> "$scratch/which"; do
        kill -0 "$server" 2> "$scratch/which" || { cat "$scratch/err"; exit 1; }
        sleep 0.1
    done
    url=$(sed -n 's/^listening on //p' "$scratch/out")
    port=${url##*:}
}
stop() {
    kill "$server"
    wait "$server" || { cat "$scratch/err"; status=1; }
    server=
}

failed() {
    echo "$1: FAILED: $2"
    tail -c 2000 "$scratch/said"
    status=1
}

# turn NAME COMMAND...: runs a client in a home of its own, what it says in $scratch/said; begins to look at the trace here.
turn() {
    name=$1
    shift
    seen=$(wc -l < "$trace" 2> "$scratch/which" || echo 0)
    mkdir -p "$scratch/home" "$scratch/work"
    (cd "$scratch/work" && env -i PATH="$PATH" HOME="$scratch/home" PI_OFFLINE=1 OPENCODE_DISABLE_MODELS_FETCH=1 OPENCODE_DISABLE_AUTOUPDATE=1 \
        CODEX_OSS_BASE_URL="$url/v1" timeout 300 "$@" < /dev/null > "$scratch/said" 2> "$scratch/said.err") && return
    cat "$scratch/said.err" >> "$scratch/said"
    failed "$name" "exit status $?"
    return 1
}

# The longest prompt since the turn began (beside it clients ask for titles) came from memory, to more than 90 %.
mostly_cached() {
    counts=$(tail -n +$((seen + 1)) "$trace" | sed -n 's/.*"prompt": \([0-9]*\), "cached": \([0-9]*\),.*/\1 \2/p' | sort -n | tail -n 1)
    if [ "${counts##* }" -gt $((${counts% *} * 9 / 10)) ]; then
        echo "$1: passed; $2: ${counts##* } of ${counts% *} tokens from memory"
    else
        failed "$1" "$2: ${counts##* } of ${counts% *} tokens from memory, expected more than 90 %"
    fi
}

launch() {
    name=$1
    shift
    turn "$name" "$sluice" launch -q --port "$port" "$@"
}

# A command, by `turn` or `launch`, that is to use the shell and say what came of it.
uses_shell() {
    "$@" || return
    grep -q 'It says said-by-the-shell' "$scratch/said" || { failed "$2" 'the answer is missing'; return; }
    mostly_cached "$2" 'after its tool'
}

# Two turns of a conversation, the arguments of the second after --.
converses() {
    name=$1 client=$2
    shift 2
    first=
    while [ "$1" != -- ]; do
        first="$first $1"
        shift
    done
    shift
    # shellcheck disable=SC2086
    launch "$name" "$client" $first 'say hello' || return
    [ -s "$scratch/said" ] || { failed "$name" 'no answer'; return; }
    launch "$name" "$client" "$@" 'say hello again' || return
    mostly_cached "$name" 'second turn'
}

# A client whose tool must not run by a call that is malformed, and that asks again.
stays_unharmed() {
    rm -f "$scratch/work/executed"
    launch "$@" || return
    if [ -e "$scratch/work/executed" ]; then
        failed "$1" 'a part of a call was run'
    elif ! grep -q 'It is not done' "$scratch/said"; then
        failed "$1" 'the client did not ask again'
    else
        echo "$1: passed"
    fi
}

start script --script "$here/script.jsonl"
cp "$here/sdk.mjs" "$cache/sdk.mjs"
timeout 120 node "$cache/sdk.mjs" "$url" || status=1
uses_shell launch 'codex, script' codex exec --skip-git-repo-check --json --ephemeral -s danger-full-access 'what does it say'
uses_shell launch 'claude, script' claude -p 'what does it say' --output-format json --allowedTools Bash
uses_shell launch 'opencode, script' opencode run 'what does it say'
uses_shell launch 'pi, script' pi -p 'what does it say'
# Without any settings: by what it takes for another program.
uses_shell turn 'codex --oss, script' codex exec --oss --local-provider ollama --skip-git-repo-check --ephemeral -s danger-full-access \
    'what does it say'
stop

start broken --script "$here/broken.jsonl"
stays_unharmed 'codex, a malformed call' codex exec --skip-git-repo-check --ephemeral -s danger-full-access 'do it'
stays_unharmed 'claude, a malformed call' claude -p 'do it' --allowedTools Bash
stays_unharmed 'opencode, a malformed call' opencode run 'do it'
stays_unharmed 'pi, a malformed call' pi -p 'do it'
stop

if "$sluice" run -q -p 'Hello' --max-tokens 1 > "$scratch/said" 2>&1; then
    start builtin --ctx 64K
    converses 'codex, built-in model' codex exec --skip-git-repo-check -s read-only -- exec --skip-git-repo-check resume --last
    converses 'claude, built-in model' claude -p -- -p --continue
    converses 'opencode, built-in model' opencode run -- run --continue
    converses 'pi, built-in model' pi -p -- -p --continue
    stop
else
    echo 'clients: the built-in model is skipped, none is built in'
fi
exit $status
