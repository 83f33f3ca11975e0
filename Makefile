# Two commands, nothing before them: `make demo` and `make test`. The rest serves those who change things.
.PHONY: help demo test test-ui test-isa test-devices sanitize check bench bench-arm nano docs format setup clean
.DEFAULT_GOAL := help
SHELL := /bin/sh

BIN := .venv/bin
# WITH_TORCH=1 adds the tests that need the `torch` extra (PyTorch .bin checkpoints, the torch model).
comma := ,
EXTRAS := dev$(if $(WITH_TORCH),$(comma)torch)
PYTEST := $(BIN)/python -m pytest
CPP := $(shell find patches/src \( -name '*.cpp' -o -name '*.c' -o -name '*.h' \) 2>/dev/null)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup:
	@sh scripts/setup.sh $(EXTRAS)

demo: setup ## convert, quantize, benchmark beside stock llama.cpp and chat, on the model in models/
	@sh scripts/demo.sh

test: setup ## everything: both engines, the suite, and a part of it again from the installed wheel
	@echo "test: engines (first time 6 to 12 minutes on 2 cores, then cached)"
	@$(BIN)/plm-edge engine build --stock
	@$(BIN)/plm-edge engine build --tests
	@echo "test: the engine's own tests: upstream's of the architecture, ours of the kernels (about a minute)"
	@$(BIN)/plm-edge engine test
	@echo "test: suite (about 5 minutes)"
	@$(PYTEST) -q
	@echo "test: the wheel in a clean environment (about a minute)"
	@sh scripts/test-wheel.sh

test-ui: setup ## the web pages of chat and report in headless Chromium (needs chromium, chromium-driver, npm)
	@$(PYTEST) -q -m slow tests/commands/test_serve.py tests/commands/test_report.py

test-isa: setup ## the kernels' tests on every instruction set of x86-64 and arm64 (an hour on 2 cores)
	@sh scripts/test-isa.sh x86
	@sh scripts/test-isa.sh arm

test-devices: setup ## from an empty card to a chat, on a virtual Raspberry Pi and a virtual phone (docs/devices)
	@echo "test-devices: engines of all profiles, three in all (first time 10 to 20 minutes on 2 cores, then cached)"
	@for device in rpi5 rpi4 snapdragon-8-gen-3; do $(BIN)/plm-edge engine build --device $$device >/dev/null || exit 1; done
	@echo "test-devices: the devices are made once (5 minutes), then tested (10 minutes)"
	@$(PYTEST) -q -m "" tests/devices

sanitize: setup ## the engine's tests and a small model under ASan, UBSan and TSan (an hour on 2 cores)
	@sh scripts/sanitize.sh address
	@sh scripts/sanitize.sh thread

check: setup ## ruff, mypy --strict, clang-format, docs are current
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@[ -z "$(CPP)" ] || $(BIN)/clang-format --dry-run -Werror $(CPP)
	@$(BIN)/python scripts/cli_docs.py --check

format: setup ## let the tools format everything
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .
	@[ -z "$(CPP)" ] || $(BIN)/clang-format -i $(CPP)

nano: ## train plm-nano again from nothing (an hour or two on 2 cores, resumable)
	@sh scripts/setup.sh dev,torch
	@sh scripts/nano.sh

docs: setup ## write docs/cli.md from --help
	@$(BIN)/python scripts/cli_docs.py

bench: setup ## the speed table of docs/performance.md on this machine (about an hour)
	@$(BIN)/plm-edge bench --suite

bench-arm: setup ## instructions per token on a virtual Cortex-A76, beside stock (20 minutes; --page FILE in ARGS keeps it)
	@$(BIN)/python -m tests.devices.instructions $(ARGS)

clean: ## remove what the targets made here (not the cache under ~/.cache)
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
