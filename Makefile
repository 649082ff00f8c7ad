# `make run` starts pulse on this machine; `make test` runs every test. Both fetch what they need.

SHELL := /bin/bash
CACHE := $(or $(PULSE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pulse)
# Outside the checkout, so that a fresh clone builds only what changed.
export CARGO_TARGET_DIR ?= $(CACHE)/target

# OpenSSL, which Kafka over TLS needs: the system's where its development files are there, else built from source (perl, and two or
# three minutes of CPU). The image is always built from source, statically.
ifeq ($(shell pkg-config --exists 'openssl >= 3' 2>/dev/null && echo yes),yes)
export OPENSSL_NO_VENDOR := 1
endif

# A program without its screen is not what these targets build.
export PULSE_REQUIRE_WEB := 1

.PHONY: run build dist web own test explore fuzz check fetch fetch-test bench bench-screen bench-sdk faults pictures schemathesis

run: build
	$(CARGO_TARGET_DIR)/release/pulse serve

build: web
	cargo build --release --locked

# The program as it is shipped and measured.
dist: web
	cargo build --profile dist --locked

# The screen, into web/dist, from where cargo puts it into the program. Nothing is done for sources that have not changed.
web: fetch own
	node web/build.mjs

# Cargo tells by the times of files whether a crate has changed, and takes what another checkout built later for this one's.
own:
	@mkdir -p $(CARGO_TARGET_DIR)
	@[ "$$(cat $(CARGO_TARGET_DIR)/checkout 2>/dev/null)" = "$(CURDIR)" ] || rm -rf $(CARGO_TARGET_DIR)/*/.fingerprint/pulse-*
	@echo "$(CURDIR)" > $(CARGO_TARGET_DIR)/checkout

fetch:
	./scripts/fetch.sh

fetch-test:
	./scripts/fetch.sh test

# One commit, one verdict: random cases are the same in every run. `make explore` looks for others.
# What failed says where and what it saw; the frames of the runtime below it hide that.
test: export PROPTEST_RNG_SEED ?= 1
test: export RUST_BACKTRACE := 0
test: fetch-test web check
	cargo test --locked --lib --bins --tests

# Thirty times as many random cases, other ones each time: hours. What fails prints its case.
explore: export PULSE_TEST_CASES ?= 30
explore: fetch-test web
	cargo test --locked --test it -- report back_tests_say
	PROPTEST_CASES=5000 cargo test --locked --lib

# Whatever may come from outside, for so many seconds; each round says its seed.
fuzz: FUZZ_SECONDS ?= 600
fuzz: fetch-test web
	./scripts/fuzz.sh $(FUZZ_SECONDS)

check: web
	cargo fmt --check
	web/node_modules/.bin/tsc --project web
	cargo clippy --locked --all-targets -- --deny warnings

bench: dist
	$(CARGO_TARGET_DIR)/dist/pulse bench --max --duration 60s

# Whether what is answered is what `/openapi.json` says, whatever is asked: five minutes.
schemathesis: build
	./scripts/schemathesis.sh $(CARGO_TARGET_DIR)/release/pulse

# The pictures of the README, as the tests of the screen take them.
pictures: fetch-test web
	PICTURES=$(CURDIR)/docs cargo test --locked --test it -- the_screen_shows

# What the screen costs a browser: bytes of each page, the first chart beside the least that shows the same, long tasks, drawing again.
bench-screen: fetch-test web
	SCREEN_BENCH=1 cargo test --locked --test it -- the_screen_shows --nocapture

# What SDKs for browsers cost a page, ours beside others: bytes, and milliseconds of its main thread.
bench-sdk: fetch-test web
	cargo test --locked --test it -- what_sdks_cost_a_page --ignored --nocapture

# The tests of faults with more rounds, and things away for as long as they are in life. Most of it is waiting: several at once.
faults: export PULSE_TEST_KILLS := 200
faults: export PULSE_TEST_LONG := 1
faults: fetch-test web
	cargo test --locked --test it -- overlap --test-threads 1 --nocapture
	cargo test --locked --test it -- brokers cluster crash dead engine faults kafka limits owners power redis refusals sessions:: signals slow \
	    --skip overlap --test-threads 4 --nocapture
