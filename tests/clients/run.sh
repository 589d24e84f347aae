#!/bin/sh
# Real clients against a scripted server. They come from npm once, into a folder of the user's cache, and are skipped without it.
# usage: run.sh [PATH_OF_SLUICE]
set -u
sluice=$(realpath "${1:-build/sluice}")
here=$(realpath "$(dirname "$0")")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice-clients
command -v npm > /dev/null || { echo 'clients: skipped, npm is not installed'; exit 0; }
scratch=$(mktemp -d) || exit 1
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$scratch"' EXIT
if [ ! -e "$cache/installed" ]; then
    mkdir -p "$cache" && cd "$cache" || exit 1
    npm init -y > "$scratch/npm" 2>&1
    if ! npm i --no-audit --no-fund node@24 openai @anthropic-ai/sdk ai @ai-sdk/openai @ai-sdk/openai-compatible \
        @ai-sdk/anthropic zod >> "$scratch/npm" 2>&1; then
        tail -n 5 "$scratch/npm"
        echo 'clients: skipped, npm cannot install them'
        exit 0
    fi
    PATH=$cache/node_modules/node/bin:$PATH npm i --no-audit --no-fund @openai/codex @anthropic-ai/claude-code >> "$scratch/npm" 2>&1
    (cd node_modules/@anthropic-ai/claude-code && "$cache/node_modules/node/bin/node" install.cjs) >> "$scratch/npm" 2>&1
    touch "$cache/installed"
fi
PATH=$cache/node_modules/node/bin:$cache/node_modules/.bin:$PATH
"$sluice" serve --script "$here/script.jsonl" --port 0 --trace "$scratch/trace" > "$scratch/out" 2> "$scratch/err" &
server=$!
until grep -q '^listening' "$scratch/out"; do
    kill -0 "$server" || exit 1
    sleep 0.1
done
url=$(sed -n 's/^listening on //p' "$scratch/out")
status=0

cp "$here/sdk.mjs" "$cache/sdk.mjs"
timeout 120 node "$cache/sdk.mjs" "$url" || status=1

# A program with a home of its own, that is to use the shell and say what came of it.
agent() {
    name=$1
    shift
    command -v "$name" > "$scratch/which" || { echo "$name: skipped, not installed"; return; }
    mkdir -p "$scratch/home" "$scratch/work"
    if (cd "$scratch/work" && env -i PATH="$PATH" HOME="$scratch/home" "$@" < /dev/null > "$scratch/said" 2>&1) &&
        grep -q 'It says said-by-the-shell' "$scratch/said"; then
        echo "$name: passed; second turn: $(tail -n 1 "$scratch/trace" | sed 's/.*"prompt": \([0-9]*\), "cached": \([0-9]*\).*/\2 of \1 tokens from memory/')"
    else
        echo "$name: FAILED"
        tail -c 2000 "$scratch/said"
        status=1
    fi
}
agent codex timeout 60 codex exec --skip-git-repo-check --json --ephemeral -s danger-full-access -m deepseek-v4-flash \
    -c model_provider=l -c "model_providers.l={name=\"l\",base_url=\"$url/v1\",wire_api=\"responses\"}" 'what does it say'
agent claude ANTHROPIC_BASE_URL="$url" ANTHROPIC_AUTH_TOKEN=x ANTHROPIC_MODEL=deepseek-v4-flash \
    ANTHROPIC_DEFAULT_HAIKU_MODEL=deepseek-v4-flash CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
    timeout 90 claude -p 'what does it say' --output-format json --allowedTools Bash
exit $status
