#!/bin/sh
# The page of "/" in headless Chromium. Skipped with a message where npm or Chromium is absent.
# usage: page.sh [PATH_OF_SLUICE [FOLDER_FOR_SCREENSHOTS]]
set -u
sluice=$(realpath "${1:-build/sluice}")
here=$(realpath "$(dirname "$0")")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice-clients
browser=$(command -v chromium || command -v chromium-browser) || { echo 'page: skipped, chromium is not installed'; exit 0; }
command -v npm > /dev/null || { echo 'page: skipped, npm is not installed'; exit 0; }
scratch=$(mktemp -d) || exit 1
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$scratch"' EXIT
. "$here/install.sh"
install_clients page playwright-core || exit 0
"$sluice" serve --port 0 --script "$here/page.jsonl" > "$scratch/out" 2> "$scratch/err" &
server=$!
until grep -q '^listening' "$scratch/out" 2> "$scratch/which"; do
    kill -0 "$server" 2> "$scratch/which" || { cat "$scratch/err"; exit 1; }
    sleep 0.1
done
mkdir -p "${2:-$scratch}"
shots=$(realpath "${2:-$scratch}")
cp "$here/page.mjs" "$cache/page.mjs"
timeout 120 node "$cache/page.mjs" "$(sed -n 's/^listening on //p' "$scratch/out")" "$browser" "$shots"
