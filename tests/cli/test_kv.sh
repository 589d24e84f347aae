#!/bin/sh
# Conversations on disk: `kv list | show | verify | prune`, and a server that is killed and goes on where it was.
. tests/cli/lib.sh
"$SLUICE" run -q -p 'Hello' --max-tokens 1 > "$scratch/run" 2>&1 || skip 'no model is built in'
dir=$scratch/kv
expect 0 "$SLUICE" run -q --kv-dir "$dir" -p 'What is the capital of France?'
says out Paris
expect 0 "$SLUICE" kv verify "$dir"
says out '0 harmed'
expect 0 "$SLUICE" kv list "$dir"
says out 'tokens'
expect 0 "$SLUICE" kv show "$dir"
says out 'What is the'
id=$(awk 'NR == 2 { print $1 }' "$scratch/out")
expect 0 "$SLUICE" kv show "$dir" "$id"
says out "$id"
says out 'What is the capital of France?'
says out 'fp8'
expect 2 "$SLUICE" kv show "$dir" nothing
expect 2 "$SLUICE" kv show
record=$(find "$dir" -name '*.ckpt' | head -n 1)
printf x >> "$record"
expect 1 "$SLUICE" kv verify "$dir"
says out "$record"
expect 0 "$SLUICE" kv prune "$dir"
[ ! -e "$record" ] || fail 'the harmed record is still there'
expect 0 "$SLUICE" kv verify "$dir"
expect 0 "$SLUICE" kv prune "$dir" --kv-size 1
[ -z "$(find "$dir" -name '*.ckpt' -o -name '*.page')" ] || fail 'prune left records'
expect 1 "$SLUICE" kv list "$scratch/absent"
expect 2 "$SLUICE" kv list

# ---- a server that is killed ----

command -v curl > "$scratch/which" || skip 'curl is not installed'
"$SLUICE" serve --script "$scratch/absent" > "$scratch/which" 2>&1
! grep -q WITH_SERVER=0 "$scratch/which" || skip 'built without the server'
server=
trap '[ -z "$server" ] || kill -9 "$server" 2> "$scratch/gone"; rm -rf "$scratch"' EXIT
start() {
    rm -f "$scratch/serve.out"
    "$SLUICE" serve --port 0 --kv-dir "$dir" > "$scratch/serve.out" 2> "$scratch/serve.err" &
    server=$!
    tries=0
    until grep -q '^listening' "$scratch/serve.out" 2> "$scratch/which"; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail 'the server does not start'
        sleep 0.1
    done
    url=$(sed -n 's/^listening on //p' "$scratch/serve.out")
}
long=$(yes 'The quick brown fox jumps over the lazy dog.' | head -n 60 | tr '\n' ' ')
chat="{\"messages\": [{\"role\": \"system\", \"content\": \"$long\"}, {\"role\": \"user\", \"content\": \"Who are you?\"}], \"max_tokens\": 20}"
ask() {
    curl -sS -m 120 -o "$scratch/$1" -d "$chat" "$url/v1/chat/completions" 2> "$scratch/curl" || fail 'no answer'
}
number() {
    sed "s/.*\"$1\": \([0-9]*\).*/\1/" "$scratch/$2"
}
start
ask before
# What was read is on disk soon, also while the server goes on.
tries=0
until [ "$(find "$dir" -name '*.ckpt' | wc -l)" -ge 2 ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || fail 'nothing is saved'
    sleep 0.1
done
kill -9 "$server"
wait "$server" 2> "$scratch/gone"
start
ask after
kill -TERM "$server"
wait "$server"
server=
prompt=$(number prompt_tokens after)
cached=$(number cached_tokens after)
[ "$(number cached_tokens before)" -eq 0 ] || fail 'the first request had something cached'
[ "$cached" -gt $((prompt * 9 / 10)) ] || fail "after the restart $cached of $prompt tokens were at hand"
text() {
    sed 's/.*"content": "\([^"]*\)".*/\1/' "$scratch/$1"
}
[ "$(text before)" = "$(text after)" ] || fail 'the answer is another one'
