#!/bin/sh
# `sluice serve` from outside, with curl: the built-in model, keys, TLS, pages of other sites, packed bodies, stopping.
. tests/cli/lib.sh
command -v curl > "$scratch/which" || skip 'curl is not installed'
"$SLUICE" serve --script "$scratch/absent" > "$scratch/which" 2>&1
! grep -q WITH_SERVER=0 "$scratch/which" || skip 'built without the server'
server=
trap '[ -z "$server" ] || kill -9 "$server" 2> "$scratch/gone"; rm -rf "$scratch"' EXIT

# start ARGS...: serves in the background; $url is where, and ends with the port.
start() {
    rm -f "$scratch/serve.out"
    "$SLUICE" serve --port 0 "$@" > "$scratch/serve.out" 2> "$scratch/serve.err" &
    server=$!
    tries=0
    until grep -q '^listening' "$scratch/serve.out" 2> "$scratch/which"; do
        kill -0 "$server" 2> "$scratch/which" || { cat "$scratch/serve.err"; fail 'the server ended'; }
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail 'the server does not start'
        sleep 0.1
    done
    url=$(sed -n 's/^listening on //p' "$scratch/serve.out")
}

# stop: the server ends by itself after SIGTERM.
stop() {
    kill -TERM "$server"
    wait "$server" || { cat "$scratch/serve.err"; fail "SIGTERM: exit status $?"; }
    server=
}

# ask STATUS PATH ARGS...: the body in $scratch/body.
ask() {
    wanted=$1
    path=$2
    shift 2
    found=$(curl -sS -k -m 120 -o "$scratch/body" -w '%{http_code}' "$@" "$url$path" 2> "$scratch/curl")
    [ "$found" = "$wanted" ] && return
    cat "$scratch/body" "$scratch/curl"
    fail "$path: expected status $wanted, found $found"
}

has() {
    grep -qF -e "$1" "$scratch/body" && return
    cat "$scratch/body"
    fail "expected '$1' in the body"
}

# ---- the built-in model ----

"$SLUICE" run -q -p 'Hello' --max-tokens 1 > "$scratch/run" 2>&1 || skip 'no model is built in'
start
ask 200 /health
has '{"status": "ok"}'
chat='{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 24, "seed": 1}'
ask 200 /v1/chat/completions -d "$chat"
has '"object": "chat.completion"'
has '"cached_tokens": 0'
content=$(sed 's/.*"content": "\([^"]*\)".*/\1/' "$scratch/body")
"$SLUICE" run -q -p 'Hi' --max-tokens 24 --nothink > "$scratch/run" 2> "$scratch/which"
[ "$content" = "$(cat "$scratch/run")" ] || fail "the server answers '$content', run '$(cat "$scratch/run")'"

# The same again comes from memory; packed bodies mean the same.
ask 200 /v1/chat/completions -d "$chat"
has "\"content\": \"$content\""
printf '%s' "$chat" | gzip > "$scratch/packed"
ask 200 /v1/chat/completions -H 'Content-Encoding: gzip' --data-binary @"$scratch/packed"
has "\"content\": \"$content\""
if command -v zstd > "$scratch/which"; then
    printf '%s' "$chat" | zstd -q > "$scratch/packed"
    ask 200 /v1/chat/completions -H 'Content-Encoding: zstd' --data-binary @"$scratch/packed"
    has "\"content\": \"$content\""
fi
ask 400 /v1/chat/completions -H 'Content-Encoding: gzip' -d "$chat"
ask 400 /v1/chat/completions -H 'Content-Encoding: br' -d "$chat"

# Streams side by side say what each says alone.
for i in 1 2 3 4 5 6 7 8; do
    curl -sS -m 120 -N "$url/v1/chat/completions" \
        -d "{\"messages\": [{\"role\": \"user\", \"content\": \"Count to $i\"}], \"max_tokens\": 40, \"stream\": true}" \
        > "$scratch/stream$i" 2> "$scratch/which" &
    eval "pid$i=\$!"
done
for i in 1 2 3 4 5 6 7 8; do
    eval "wait \$pid$i" || fail "stream $i"
    grep -q '^data: \[DONE\]' "$scratch/stream$i" || fail "stream $i does not end"
    ask 200 /v1/chat/completions -d "{\"messages\": [{\"role\": \"user\", \"content\": \"Count to $i\"}], \"max_tokens\": 40}"
    sed -n 's/.*"delta": {"content": "\(.*\)"}, "logprobs.*/\1/p' "$scratch/stream$i" | tr -d '\n' > "$scratch/alone"
    has "\"content\": \"$(cat "$scratch/alone")\""
done

# A budget closes the thinking: 6 tokens of it and its closing mark, and an answer after them.
ask 200 /v1/chat/completions -d '{"messages": [{"role": "user", "content": "How many letters are in the word cat?"}],
    "max_tokens": 80, "thinking": {"type": "enabled", "budget_tokens": 6}}'
has '"reasoning_tokens": 7}'
! grep -q '"content": ""' "$scratch/body" || fail 'thinking left no room for an answer'

# What an answer is held to, in each API, hot as it may be; thinking before it.
schema='{"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["ok", "n"], "additionalProperties": false}'
hot='"messages": [{"role": "user", "content": "Hi"}], "temperature": 1.5, "max_tokens": 200'
space='( |\\n( |\\t)*)?'
form="\\{$space\\\\\"ok\\\\\":$space(true|false),$space\\\\\"n\\\\\":$space[1-9]$space\\}"
like() {
    grep -qE -e "$1" "$scratch/body" && return
    cat "$scratch/body"
    fail "expected '$1' in the body"
}
for seed in 1 2 3; do
    ask 200 /v1/chat/completions -d "{$hot, \"seed\": $seed, \"response_format\": {\"type\": \"json_schema\",
        \"json_schema\": {\"name\": \"x\", \"schema\": $schema}}}"
    like "\"content\": \"$form\""
done
ask 200 /v1/chat/completions -d "{$hot, \"seed\": 1, \"guided_json\": $schema,
    \"thinking\": {\"type\": \"enabled\", \"budget_tokens\": 10}}"
like "\"content\": \"$form\", \"reasoning_content\""
ask 200 /v1/messages -d "{$hot, \"output_config\": {\"format\": {\"type\": \"json_schema\", \"schema\": $schema}}}"
like "\"text\": \"$form\""
ask 200 /v1/responses -d "{\"input\": \"Hi\", \"temperature\": 1.5, \"reasoning\": {\"effort\": \"none\"},
    \"text\": {\"format\": {\"type\": \"json_schema\", \"name\": \"x\", \"schema\": $schema}}}"
like "\"text\": \"$form\""
ask 200 /api/chat -d "{$hot, \"stream\": false, \"think\": false, \"format\": $schema}"
like "\"content\": \"$form\""
ask 200 /v1/completions -d '{"prompt": "Once", "temperature": 1.5, "max_tokens": 100, "n": 3, "grammar": "root ::= \"<\" [a-c]{4} \">\""}'
like '"text": "<[abc]{4}>".*"text": "<[abc]{4}>".*"text": "<[abc]{4}>"'
ask 200 /v1/chat/completions -d "{$hot, \"guided_choice\": [\"left\", \"right\"]}"
like '"content": "(left|right)"'
ask 200 /v1/chat/completions -d "{$hot, \"seed\": 2, \"tool_choice\": \"required\", \"parallel_tool_calls\": false,
    \"thinking\": {\"type\": \"enabled\", \"budget_tokens\": 10},
    \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"report\", \"parameters\": $schema}}]}"
like '"reasoning_content": ".*"name": "report", "arguments": "\{\\"ok\\": (true|false), \\"n\\": [1-9]\}"'
ask 200 /v1/messages -d "{$hot, \"tool_choice\": {\"type\": \"tool\", \"name\": \"report\"},
    \"tools\": [{\"name\": \"report\", \"input_schema\": $schema}]}"
like '"name": "report", "input": \{"ok": (true|false), "n": [1-9]\}'

# A beginning that the client gives is part of the form; one that is not is refused.
begun="\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"{\\\"ok\\\": t\"}]"
ask 200 /v1/chat/completions -d "{$begun, \"max_tokens\": 100, \"guided_json\": $schema}"
like "\"content\": \"rue,$space\\\\\"n\\\\\":$space[1-9]$space\\}\""
ask 400 /v1/chat/completions -d "{$begun, \"guided_choice\": [\"left\"]}"
has 'outside of its grammar'

# A prompt that does not fit names both counts.
long=$(head -c 150000 /dev/zero | sed 's/\x0/ a/g')
printf '{"max_tokens": 5, "messages": [{"role": "user", "content": "%s"}]}' "$long" > "$scratch/long"
ask 400 /v1/messages -d @"$scratch/long"
has 'prompt is too long: '
has ' maximum'

# Pages of other sites and other names for this machine.
ask 403 /v1/models -H 'Host: evil.example'
ask 403 /v1/models -H 'Origin: https://evil.example'
ask 200 /v1/models -H "Origin: $url"
ask 204 /v1/models -X OPTIONS
stop

# ---- keys, TLS, CORS, the trace ----

printf '# keys\nfirst-key\nsecond-key\n' > "$scratch/keys"
set --
if command -v openssl > "$scratch/which"; then
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -keyout "$scratch/key.pem" -out "$scratch/cert.pem" 2> "$scratch/which"
    set -- --tls-cert "$scratch/cert.pem" --tls-key "$scratch/key.pem"
fi
start --api-key-file "$scratch/keys" --cors https://page.example --trace "$scratch/trace" --model-name tiny "$@"
ask 200 /health
ask 401 /v1/models
has invalid_api_key
ask 401 /v1/models -H 'Authorization: Bearer first-ke'
ask 401 /v1/models -H 'Authorization: Bearer first-key2'
ask 200 /v1/models -H 'Authorization: Bearer first-key'
has '"id": "tiny"'
ask 200 /v1/models -H 'x-api-key: second-key' -H 'Origin: https://page.example' -D "$scratch/head"
grep -qi '^access-control-allow-origin: https://page.example' "$scratch/head" || fail 'no CORS header'
ask 200 /v1/chat/completions -H 'x-api-key: second-key' -d "$chat"
stop
[ "$(stat -c %a "$scratch/trace")" = 600 ] || fail 'the trace can be read by others'
grep -q '"content": ' "$scratch/trace" || fail 'the trace has no answer'

# ---- as a service: what systemd is told, and a log of JSON ----

if command -v python3 > "$scratch/which"; then
    cat > "$scratch/manager.py" << 'END'
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
with open(sys.argv[2], "w", buffering=1) as out:
    while True:
        message = s.recv(4096).decode()
        out.write(message + "\n")
        if "STOPPING=1" in message:
            break
END
    python3 "$scratch/manager.py" "$scratch/notify" "$scratch/told" &
    manager=$!
    until [ -S "$scratch/notify" ]; do
        kill -0 "$manager" || fail 'no socket to play the service manager with'
        sleep 0.1
    done
    export NOTIFY_SOCKET="$scratch/notify" WATCHDOG_USEC=200000
    start --json-log -v
    unset NOTIFY_SOCKET WATCHDOG_USEC
    ask 404 /absent
    tries=0
    until [ "$(grep -c '^WATCHDOG=1' "$scratch/told")" -ge 3 ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail 'no signs of life for the watchdog'
        sleep 0.1
    done
    grep -q '^READY=1' "$scratch/told" || fail 'systemd is not told that the server is ready'
    stop
    wait "$manager"
    grep -q '^STOPPING=1' "$scratch/told" || fail 'systemd is not told that the server stops'
    python3 -c 'import json, sys
for line in sys.stdin:
    assert set(json.loads(line)) == {"time", "level", "text"}, line' < "$scratch/serve.err" || fail 'the log is not JSON'
    grep -q '"level": "info", "text": "127.0.0.1 /absent: 404' "$scratch/serve.err" || fail 'a refused request is not logged'
    expect 3 "$SLUICE" serve --port 0 --json-log -m "$scratch/absent.gguf"
    says err '"level": "error"'
fi

# ---- memory ----

start --parallel 4 --kv-memory 16M
stop
start --ctx 8K --kv-memory 16M
stop
expect 4 "$SLUICE" serve --port 0 --parallel 64 --ctx 8K --kv-memory 16M
says err '64 conversations of 8192 tokens need'

# ---- wrong uses ----

expect 2 "$SLUICE" serve --host 0.0.0.0
says err 'API keys'
expect 3 "$SLUICE" serve --port 0 -m "$scratch/absent.gguf"
expect 2 "$SLUICE" serve --port 70000
expect 1 "$SLUICE" serve --host 192.0.2.1 --no-api-key
says err 'cannot listen on 192.0.2.1'
