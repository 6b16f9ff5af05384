# shellcheck shell=bash
# Sourced by the scripts: progress lines with elapsed seconds, and quiet commands whose output is
# shown when they fail.

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf 'hint: %s\n' "$hint" >&2; done
    exit 1
}

# quietly LOG COMMAND…: all output goes to the log; its end is shown when the command fails. A
# long command prints its last line every 20 s.
quietly() {
    local log=$1 code=0 pid ticker
    shift
    "$@" >>"$log" 2>&1 </dev/null &
    pid=$!
    (
        while sleep 20; do say "  … $(tail -n 1 "$log" | cut -c1-100)"; done
    ) &
    ticker=$!
    wait "$pid" || code=$?
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    if [ "$code" != 0 ]; then
        printf 'The last lines of %s:\n' "$log" >&2
        tail -n 20 "$log" | sed 's/^/  | /' >&2
    fi
    return "$code"
}
