# Sourced: packages from npm in $cache, installed once, and put on the PATH.
# shellcheck shell=sh disable=SC2154

# install_clients NAME PACKAGE...: false, with a message, if npm cannot.
install_clients() {
    name=$1
    shift
    stamp=$cache/installed-$(echo "$*" | cksum | cut -d ' ' -f 1)
    if [ ! -e "$stamp" ]; then
        # Some of them want a newer node than the system's, and npm chooses by the one that runs it.
        if ! (mkdir -p "$cache" && cd "$cache" && npm init -y && npm i --no-audit --no-fund node@24 &&
            PATH=$cache/node_modules/node/bin:$PATH npm i --no-audit --no-fund "$@") > "$scratch/npm" 2>&1; then
            tail -n 5 "$scratch/npm"
            echo "$name: skipped, npm cannot install what it needs"
            return 1
        fi
        # Where npm does not run the scripts of packages.
        claude=$cache/node_modules/@anthropic-ai/claude-code
        [ ! -e "$claude/install.cjs" ] || (cd "$claude" && "$cache/node_modules/node/bin/node" install.cjs) > "$scratch/npm" 2>&1
        touch "$stamp"
    fi
    PATH=$cache/node_modules/node/bin:$cache/node_modules/.bin:$PATH
}
