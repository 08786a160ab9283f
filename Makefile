# Plimsoll's verbs. `make` alone prints them; `make demo` and `make test` install what they need.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
TRACE ?=
COPIES ?= 1
DURATION ?= 120
OUT ?= out/demo
KILLS ?= 10
SCENARIO ?= default
BROKERS ?= 1
PROFILES ?=
ORDERS ?= 100000
FAULTS ?= 100
SEED ?= 1
SEEDS ?= 1000
STORE ?= postgres
# Which files and profiles docker compose uses; as a user's own environment would say it.
COMPOSE_ENV = COMPOSE_FILE=compose.yaml$(if $(filter 3,$(BROKERS)),:deploy/compose.brokers.yaml) COMPOSE_PROFILES=$(PROFILES)

.DEFAULT_GOAL := help
SERIES ?=
.PHONY: help system servers setup lock kafka check unit test golden proto env boards bench bench-full sim bench-suite accuracy wire throughput demo chaos-inventory rates-inventory takeover handover outage up \
	down logs drill clean

help: ## print the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

system: ## install what pip cannot bring: Java and Maven, for a Kafka without Docker
	@deploy/system

servers: ## install that and the servers that the tests start: Redis, PostgreSQL, Prometheus
	@deploy/system tests

setup: .venv/ready ## make .venv from the lock file

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another with make PYTHON=...")'
	@echo "Installing Python packages into .venv (about a minute)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

lock: setup ## resolve pyproject.toml anew into the lock file, which names no address
	@$(BIN)/pip-compile --quiet --all-extras --strip-extras --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --no-header --no-annotate --upgrade \
		--output-file requirements.lock pyproject.toml

kafka: system setup ## run a real Kafka on this machine until Ctrl-C
	@$(BIN)/plimsoll kafka

check: setup ## format, lint, types, and the rules of the rooms
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest -q tests/test_tidy.py

unit: setup ## the tests that need no bus
	@$(BIN)/pytest -q -m "not bus"

test: servers setup check ## everything, on the real Kafka, Redis, PostgreSQL and Prometheus
	@$(BIN)/pytest

sim: setup ## simulate the inventory under faults: SEEDS=n, from SEED=first on; a failure tells its story
	@$(BIN)/python -m tests.inventory.sim --seeds $(SEEDS) --first $(SEED)

golden: setup ## rewrite the golden decisions; read the diff
	@$(BIN)/pytest -q tests/scheduler --rewrite-golden; git diff --stat -- tests/scheduler/golden

proto: setup ## make libs/common/plimsoll_pb2.py from its .proto
	@cd libs/common && ../../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. plimsoll.proto

boards: setup ## make the Grafana boards and docs/panels.md from deploy/grafana/boards
	@$(BIN)/python -m deploy.grafana

env: setup ## make .env.example from the settings
	@$(BIN)/plimsoll settings > .env.example

bench: setup ## all policies on one load, five paired seeds: [SCENARIO=default] [TRACE=model=FILE]
	@$(BIN)/python -m bench run --scenario "$(SCENARIO)" --seeds 5 $(if $(TRACE),--trace "$(TRACE)")

bench-full: setup ## the grid of cold starts, scenarios and traces
	@$(BIN)/python -m bench full

bench-suite: setup ## judge the decision core on all kinds of load, and with wrong laws: [KINDS=smooth]
	@$(BIN)/python -m bench suite $(if $(KINDS),--kinds "$(KINDS)")

wire: setup ## bytes and time of a tick of samples, by encoding; a minute or two
	@$(BIN)/python -m bench.wire

accuracy: setup ## judge the forecasts beside those of others: SERIES="files or folders" [OUT=dir]
	@$(BIN)/python -m bench.accuracy $(SERIES) --out "$(if $(filter file,$(origin OUT)),out/accuracy,$(OUT))"

throughput: system setup ## samples/s from Kafka into forecasts on one core, against the usual Faust agent; 4 minutes
	@$(BIN)/python -m bench.throughput

demo: system setup ## the whole loop on a real trace: [TRACE=file] [COPIES=1] [DURATION=120] [OUT=dir]
	@$(BIN)/plimsoll demo $(if $(TRACE),--trace "$(TRACE)") --copies $(COPIES) --duration $(DURATION) --out "$(OUT)"

chaos-inventory: servers setup ## orders while all fails, judged from outside: [ORDERS=100000] [FAULTS=100] [SEED=1] [STORE=postgres]
	@$(BIN)/python -m bench.chaos --orders $(ORDERS) --faults $(FAULTS) --seed $(SEED) --store $(STORE)

rates-inventory: servers setup ## orders/s beside a service that takes a row at a time, and the time to a verdict
	@$(BIN)/python -m bench.chaos.rates

takeover: system setup ## kill and pause the leading scheduler, measure who takes over when
	@$(BIN)/plimsoll takeover --kills $(KILLS)

handover: system setup ## kill one of two predictors, 20 times: when is it back, and with what state
	@$(BIN)/plimsoll handover

outage: system setup ## stop the broker for 10 s under load, count what was lost
	@$(BIN)/plimsoll outage

up: ## the whole stack in Docker, with Grafana: [BROKERS=3] [PROFILES=ui,gpu]
	@$(COMPOSE_ENV) deploy/docker/up

down: ## end that stack, and remove its data
	@$(COMPOSE_ENV) docker compose --profile '*' down --volumes --remove-orphans

logs: ## follow what its services say
	@$(COMPOSE_ENV) docker compose logs --follow --tail 20

drill: setup ## kill each of its containers, and measure when all is at work again
	@$(COMPOSE_ENV) $(BIN)/plimsoll drill

clean: ## remove what these verbs made
	@rm -rf .venv .plimsoll out
