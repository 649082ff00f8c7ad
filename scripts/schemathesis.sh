#!/usr/bin/env bash
# schemathesis.sh PULSE: asks a pulse of its own what its `/openapi.json` says, and what it does not, as holder of each kind of key, for a minute and
# a half each (SCHEMATHESIS_SECONDS). Fails on a 5xx, on a status or a content type that is not described, and on an answer that does not fit its schema.
set -euo pipefail

pulse="$1"
cache="${PULSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pulse}/schemathesis-4.32.5"
seconds="${SCHEMATHESIS_SECONDS:-90}"
address="127.0.0.1:${SCHEMATHESIS_PORT:-18473}"
[ -x "$cache/bin/schemathesis" ] || { python3 -m venv "$cache" && "$cache/bin/pip" install --quiet schemathesis==4.32.5; }

work="$(mktemp -d)"
trap 'kill "${server:-}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
export PULSE__DATA_DIR="$work/data"
"$pulse" keys admin default > "$work/keys.json"
PULSE__HTTP__LISTEN="$address" PULSE__QUERY__MCP=true PULSE__QUERY__SQL=true "$pulse" serve 2> "$work/log" &
server=$!
until curl --fail --silent "http://$address/readyz" > /dev/null; do
  kill -0 "$server" || { cat "$work/log"; exit 1; }
  sleep 0.2
done

# run KIND SEED OPTION...
run() {
  local key
  key="$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[0][sys.argv[2] + "_key"])' "$work/keys.json" "$1")"
  # Lines of JSON, which an import is, are nothing that it can make; a stream has no end.
  "$cache/bin/schemathesis" run "http://$address/openapi.json" -H "Authorization: Bearer $key" --seed "$2" --max-time "$seconds" --max-examples 6 \
    --phases coverage,fuzzing --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --workers 1 --warnings off --exclude-path /v1/import "${@:3}"
}
run read 7 --exclude-path-regex '^/v1/(live|session|export)'
run write 8 --exclude-path-regex '^/v1/(live|session|export|query|boards|alerts|channels|cohorts|people|catalogue|shared|shares|keys|trace|notes)'
run admin 9 --include-path-regex '^/v1/(keys|audit)'
