# Sourced: installs what the tests of this folder take from npm into $cache, once, and puts it on the PATH.
# shellcheck shell=sh disable=SC2154
npm_packages='openai @anthropic-ai/sdk ai @ai-sdk/openai @ai-sdk/openai-compatible @ai-sdk/anthropic zod @openai/codex @anthropic-ai/claude-code
    opencode-ai @mariozechner/pi-coding-agent playwright-core'

# False, with a message, if npm cannot.
install_clients() {
    stamp=$cache/installed-$(echo "$npm_packages" | cksum | cut -d ' ' -f 1)
    if [ ! -e "$stamp" ]; then
        # Some of them want a newer node than the system's, and npm chooses by the one that runs it.
        # shellcheck disable=SC2086
        if ! (mkdir -p "$cache" && cd "$cache" && npm init -y && npm i --no-audit --no-fund node@24 &&
            PATH=$cache/node_modules/node/bin:$PATH npm i --no-audit --no-fund $npm_packages) > "$scratch/npm" 2>&1; then
            tail -n 5 "$scratch/npm"
            echo 'clients: skipped, npm cannot install them'
            return 1
        fi
        # Where npm does not run the scripts of packages.
        (cd "$cache/node_modules/@anthropic-ai/claude-code" && "$cache/node_modules/node/bin/node" install.cjs) > "$scratch/npm" 2>&1
        touch "$stamp"
    fi
    PATH=$cache/node_modules/node/bin:$cache/node_modules/.bin:$PATH
}
