#!/usr/bin/env bash
# Installs what only the tests need. Run again it finds everything there and does nothing.
set -euo pipefail

if ! command -v redis-server >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "fetch-test-tools: the tests need redis-server (Redis 7); install it with your package manager" >&2
    exit 1
  fi
  echo "fetch-test-tools: redis-server"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null
fi
