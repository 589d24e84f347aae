#!/bin/sh
# `sluice launch`: what clients are told, by programs of their names that say what they got; a server found and one started.
. tests/cli/lib.sh
"$SLUICE" serve --script "$scratch/absent" > "$scratch/which" 2>&1
! grep -q WITH_SERVER=0 "$scratch/which" || skip 'built without the server'
server=
trap '[ -z "$server" ] || kill -9 "$server" 2> "$scratch/gone"; rm -rf "$scratch"' EXIT
SLUICE=$(realpath "$SLUICE")
export TMPDIR="$scratch/tmp" FOUND="$scratch/found"
mkdir "$scratch/bin" "$scratch/tmp"

# A client that writes its arguments and environment down, asks the server who it is, and ends with 7.
cat > "$scratch/bin/client" << 'END'
#!/bin/sh
{
    for word in "$@"; do printf 'arg %s\n' "$word"; done
    env | sort
    for word in "$@"; do [ ! -f "$word" ] || cat "$word"; done
} > "$FOUND"
url=$(grep -o 'http://[0-9.]*:[0-9]*' "$FOUND" | head -n 1)
echo "$url" > "$FOUND.url"
[ -z "$ASK" ] || curl -sS "$url/props" > "$FOUND.props"
exit 7
END
chmod +x "$scratch/bin/client"
for client in codex claude opencode pi; do
    ln -s client "$scratch/bin/$client"
done
printf '{"content": "hello", "repeat": true}\n' > "$scratch/script"

# launch STATUS ARGS...: with the clients above on the PATH.
launch() {
    wanted=$1
    shift
    ASK=$(command -v curl) PATH="$scratch/bin:$PATH" ANTHROPIC_API_KEY=mine expect "$wanted" "$SLUICE" launch "$@"
    [ -z "$(ls "$scratch/tmp")" ] || fail "launch $*: leaves $(ls "$scratch/tmp")"
}
found() {
    grep -qF -e "$1" "$scratch/found" && return
    cat "$scratch/found"
    fail "expected '$1' in what the client was told"
}
# The server that the client was told of is gone.
gone() {
    command -v curl > "$scratch/which" || return
    grep -q thinking_modes "$scratch/found.props" || fail 'the client did not reach the server'
    ! curl -s -m 5 -o "$scratch/which" "$(cat "$scratch/found.url")/health" || fail 'the server outlives its client'
}

launch 7 --script "$scratch/script" --port 0 codex exec -m other 'two words' --help
says err 'codex asks script at http://127.0.0.1:'
found 'arg model_provider="sluice"'
found 'arg model_context_window='
found 'wire_api="responses"'
found 'arg two words'
found 'arg --help'
gone
launch 7 --script "$scratch/script" --port 0 claude -p hello
found 'ANTHROPIC_BASE_URL=http://127.0.0.1:'
found 'ANTHROPIC_MODEL=script'
found 'ANTHROPIC_AUTH_TOKEN=none'
! grep -q ANTHROPIC_API_KEY "$scratch/found" || fail "the user's key of another server is passed on"
found 'arg -p'
gone
launch 7 --script "$scratch/script" --port 0 opencode run hello
found '"model": "sluice/script"'
found '"reasoning_content"'
gone
launch 7 -q --script "$scratch/script" --port 0 pi -p hello
[ ! -s "$scratch/err" ] || fail '--quiet is not quiet'
found 'arg --provider'
found 'pi.registerProvider("sluice"'
gone

# A server that runs is used, with its key, and outlives the client.
printf 'the-key\n' > "$scratch/keys"
"$SLUICE" serve --port 0 --script "$scratch/script" --model-name 'my "model"' --api-key-file "$scratch/keys" > "$scratch/serve.out" 2>&1 &
server=$!
tries=0
until grep -q '^listening' "$scratch/serve.out" 2> "$scratch/which"; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || fail 'the server does not start'
    sleep 0.1
done
port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$scratch/serve.out")
launch 2 --port "$port" claude
says err 'wants an API key'
launch 7 --port "$port" --api-key-file "$scratch/keys" claude
found "ANTHROPIC_BASE_URL=http://127.0.0.1:$port"
found 'ANTHROPIC_AUTH_TOKEN=the-key'
found 'ANTHROPIC_MODEL=my--model-'
launch 7 --port "$port" --api-key-file "$scratch/keys" codex
found 'SLUICE_CLIENT_KEY=the-key'
launch 2 --port "$port" --api-key-file "$scratch/keys" -m "$models/mini-a.gguf" codex
says err 'serves'
kill -0 "$server" || fail 'a server that ran before was ended'
kill "$server"
wait "$server"
server=

# SIGTERM ends the client and the server; a kill of the launcher ends the server too.
rm "$scratch/bin/pi"
cat > "$scratch/bin/pi" << 'END'
#!/bin/sh
echo $$ > "$FOUND.pid"
grep -o 'http://[0-9.]*:[0-9]*' "$2" > "$FOUND.part"
mv "$FOUND.part" "$FOUND.url"
exec sleep 600
END
chmod +x "$scratch/bin/pi"
for signal in TERM KILL; do
    rm -f "$FOUND.url"
    PATH="$scratch/bin:$PATH" "$SLUICE" launch -q --script "$scratch/script" --port 0 pi > "$scratch/out" 2>&1 &
    launcher=$!
    tries=0
    until [ -s "$FOUND.url" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail 'the client does not start'
        sleep 0.1
    done
    client=$(cat "$FOUND.pid")
    kill -"$signal" "$launcher"
    { wait "$launcher"; } 2> "$scratch/which"
    status=$?
    if [ "$signal" = TERM ]; then
        [ "$status" = 143 ] || fail "SIGTERM: exit status $status"
        [ -z "$(ls "$scratch/tmp")" ] || fail "SIGTERM: leaves $(ls "$scratch/tmp")"
    else
        kill "$client"
        rm -r "$scratch"/tmp/sluice-launch-*
    fi
    if command -v curl > "$scratch/which"; then
        tries=0
        while curl -s -m 5 -o "$scratch/which" "$(cat "$FOUND.url")/health"; do
            tries=$((tries + 1))
            [ "$tries" -lt 100 ] || fail "SIG$signal: the server outlives its client"
            sleep 0.1
        done
    fi
done

# Wrong uses, and what is not there.
launch 2
says err 'expected codex, claude, opencode or pi'
launch 2 codx
says err "did you mean 'codex'?"
launch 1 --port 0 -m "$scratch/absent.gguf" codex
says err 'absent.gguf'
says err 'the server could not be started'
launch 1 --host 0.0.0.0 --port 1 codex
says err 'no server of this program answers at http://0.0.0.0:1'
expect 1 env PATH="$scratch/tmp" "$SLUICE" launch pi
says err 'npm install -g @mariozechner/pi-coding-agent'
