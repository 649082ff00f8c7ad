#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET ...]: the targets that take anything, with other random inputs each round, until the time is over, built as
# `profile.fuzz` says: optimized, with the checks of a debug build. Each round says its seed;
# `PROPTEST_RNG_SEED=SEED PROPTEST_CASES=CASES cargo test --lib TARGET` does it again. What fails is written, made as small as it can be, to
# `proptest-regressions/`, and ends the run.
set -euo pipefail

seconds="${1:?fuzz: for how many seconds?}"
shift
cases="${PROPTEST_CASES:-4000}"
# Bodies and addresses of every dialect; encodings, heads, keys, addresses of clients and of webhooks, agents; questions and their SQL; times,
# records, letters, PROXY headers, addresses of pages; what a body means, whole and apart; the way of events to blocks.
targets=(fuzz never_panic no_bytes_panic hostile whatever_comes_is whatever_a_number whatever_letters_hold whatever_the_lines_are the_sql_is_the_same every_statement_is_of_one_project events_fare_the_same
  nothing_moves_and_good_text_stays the_defect_is_the_one_that_the_parser_names a_shape_is_never_smaller)
[ "$#" = 0 ] || targets=("$@")

binary="$(cargo test --locked --profile fuzz --lib --no-run --message-format json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)"
[ -x "$binary" ] || { echo "fuzz: no tests were built" >&2; exit 1; }
count() { "$binary" --list "$@" 2>/dev/null | grep -c ': test$' || true; }
for target in "${targets[@]}"; do
  [ "$(count "$target")" != 0 ] || { echo "fuzz: no target is called $target" >&2; exit 1; }
done
tests="$(count "${targets[@]}")"
echo "fuzz: $tests targets, at most $cases inputs each a round, for $seconds s"

began=$SECONDS
rounds=0
while ((SECONDS - began < seconds)); do
  seed="$(od -An -N7 -tu8 /dev/urandom | tr -d ' ')"
  at=$SECONDS
  if ! said="$(PROPTEST_RNG_SEED="$seed" PROPTEST_CASES="$cases" "$binary" --quiet "${targets[@]}" 2>&1)"; then
    echo "$said"
    echo "fuzz: seed $seed, $cases cases: a target fails" >&2
    exit 1
  fi
  rounds=$((rounds + 1))
  echo "round $rounds: seed $seed, $((SECONDS - at)) s"
done
echo "fuzz: $rounds rounds of $tests targets in $((SECONDS - began)) s, up to $((rounds * tests * cases)) inputs, none of them fails"
