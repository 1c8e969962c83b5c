# Drover: every chore is a target. `make demo` and `make test` set everything up on a bare Debian 12 machine.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := .make
RUST   := $(shell find engine lab -name target -prune -o \( -name '*.rs' -o -name Cargo.toml -o -name Cargo.lock \) -print)
LAB_BIN := src/drover/lab/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# All that the lab and the tests write stays in the checkout.
export DROVER_LAB ?= $(CURDIR)/.lab
export DROVER_DATA ?= $(CURDIR)/.lab/data

.PHONY: help setup build wheel demo test test-rust test-python soak fuzz lint fmt bench clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(STAMP)/packages $(STAMP)/venv ## Install what is missing: Debian packages, Rust, the Python environment

$(STAMP)/packages: bin/packages
	@mkdir -p $(STAMP)
	bin/packages
	@touch $@

$(STAMP)/venv: requirements.lock $(STAMP)/packages
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

build: $(STAMP)/engine $(STAMP)/lab ## Build the engine and the lab's programs, and install Drover into .venv

$(STAMP)/engine: $(RUST) pyproject.toml packaging/scripts/drover $(STAMP)/venv $(STAMP)/lab
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

$(STAMP)/lab: $(filter lab/%,$(RUST)) $(STAMP)/packages
	cd lab && cargo build --release --locked --quiet
	@mkdir -p $(LAB_BIN)
	install -m 0755 lab/target/x86_64-unknown-linux-gnu/release/drover-witness lab/target/x86_64-unknown-linux-gnu/release/drover-lab-link $(LAB_BIN)/
	@touch $@

wheel: $(STAMP)/lab $(STAMP)/venv ## Build the wheel: Python package, engine, the lab's programs
	$(BIN)/maturin build --release --out dist

demo: build ## Move a running VM between two sites on this machine, and prove that nothing was lost
	bin/demo

test: build test-rust test-python ## Run all tests

test-rust:
	cd engine && cargo test --locked --quiet
	cd lab && cargo test --locked --quiet

# Tests wait more than they work: three at a time, each worker with a lab of its own.
test-python:
	$(BIN)/pytest -n 3 --dist worksteal -m "not soak"

soak: build ## All tests, those of `make test` and the long ones
	cd engine && DROVER_EXHAUSTIVE=1 DROVER_SCHEDULES=500000 DROVER_LINK_SEEDS=300 DROVER_POWER_CUTS=100 \
	  cargo test --locked --release --quiet
	$(BIN)/pytest -n 3 --dist worksteal

# What the fuzzer adds to the corpora stays out of the tree; `cargo fuzz cmin` makes it small enough to go in.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := $(notdir $(basename $(wildcard engine/fuzz/fuzz_targets/*.rs)))
FUZZ_WORK    := $(CURDIR)/.lab/fuzz

fuzz: ## Fuzz every target for FUZZ_SECONDS (60) each; stop at the first finding. Needs a nightly toolchain
	cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked --quiet
	cd engine/fuzz && for target in $(FUZZ_TARGETS); do \
	  mkdir -p $(FUZZ_WORK)/$$target && \
	  cargo +nightly fuzz run $$target $(FUZZ_WORK)/$$target corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) \
	    -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=64 -print_final_stats=1 || exit 1; \
	done

lint: build ## ruff, mypy --strict, rustfmt, clippy
	$(BIN)/ruff check src tests bench docs
	$(BIN)/ruff format --check src tests bench docs
	$(BIN)/mypy
	cd engine && cargo fmt --check && cargo clippy --locked --all-targets --quiet -- -D warnings
	cd lab && cargo fmt --check && cargo clippy --locked --all-targets --quiet -- -D warnings

fmt: $(STAMP)/venv ## Format the sources
	$(BIN)/ruff format src tests bench docs
	$(BIN)/ruff check --fix-only --quiet src tests bench docs
	cd engine && cargo fmt
	cd lab && cargo fmt

bench: build ## Measure against nbdcopy, qemu-img and QEMU mirror; rewrites bench/RESULTS.md
	$(BIN)/python -m bench

clean: ## Take the lab down and remove everything that was built
	-[ -x $(BIN)/drover ] && $(BIN)/drover lab reset --yes
	rm -rf $(STAMP) $(VENV) dist engine/target lab/target $(LAB_BIN) .lab
