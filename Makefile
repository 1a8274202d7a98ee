# The only door. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
export BENTOML_DO_NOT_TRACK := True

# What `make benchmark` measures: the built-in phantom test set, or DATA=folder of yours.
TEST_SET := data/phantom-test
TEST_FILMS ?= 100
TEST_SEED ?= 20260
TRAIN_SET := data/phantom-train-$(TRAIN_FILMS)
TRAIN_FILMS ?= 1000
TRAIN_SEED ?= 730
SHEET_SEED ?= 77
DATA ?=
RUN ?= $(if $(DATA),$(notdir $(abspath $(DATA))),phantom-test)

NETWORK ?=
IMAGE ?=
AT ?=
PRESET ?= lite
ARGS ?=
TARGET ?= 127.0.0.1:50050

.PHONY: help setup benchmark test-set train-set phantoms-sheet test up down status conform train proto manifests lock lint format speed clean swap certs real-check
.PHONY: faults images containers-up containers-down containers-certs test-containers bento-build torch-lock

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

setup: ## Make every environment (downloads from the package registry, shows progress)
	@$(PYTHON) tools/rooms.py setup

benchmark: setup ## Measure the zoo and write the report: on phantoms, or DATA=folder of films with outlines
ifeq ($(DATA),)
	@$(MAKE) --no-print-directory test-set
	@$(PYTHON) tools/zoo.py run -- evaluator/.venv/bin/python -m spinezoo_evaluator.benchmark \
	  --data $(TEST_SET) --report reports/$(RUN) $(ARGS)
else
	@$(PYTHON) tools/zoo.py run -- evaluator/.venv/bin/python -m spinezoo_evaluator.benchmark \
	  --data $(DATA) --report reports/$(RUN) $(ARGS)
endif

real-check: setup ## Measure recognition and names on films with corner truth: DATA=folder
	@test -n "$(DATA)" || { echo "say on which films: DATA=folder with a corner file (docs/labelling.md)"; exit 2; }
	@$(PYTHON) tools/zoo.py run -- evaluator/.venv/bin/python -m spinezoo_evaluator.real_check \
	  --data $(DATA) --report reports/real-check-$(notdir $(abspath $(DATA))) $(ARGS)

test-set: setup ## Make the phantom test set (100 films, DICOM) if it is not there
	@evaluator/.venv/bin/python -m spinezoo_spine.phantom --out $(TEST_SET) \
	  --count $(TEST_FILMS) --seed $(TEST_SEED) --format dicom --workers 2

train-set: setup ## Make a phantom training set (TRAIN_FILMS=730, PNG) if it is not there
	@libs/spine/.venv/bin/python -m spinezoo_spine.phantom --out $(TRAIN_SET) \
	  --count $(TRAIN_FILMS) --seed $(TRAIN_SEED) --format png --workers 2

phantoms-sheet: setup ## Draw phantom films beside real ones, for looking at: [DATA=folder of films]
	@libs/spine/.venv/bin/python -m spinezoo_spine.phantom --count 16 --seed $(SHEET_SEED) \
	  --sheet reports/phantoms-sheet.png --beside $(if $(DATA),$(DATA),../shared/data/real_lateral_dev)
	@echo reports/phantoms-sheet.png

test: setup ## Run every test (ROOM=libs/spine for one room, ARGS for pytest)
	@$(PYTHON) tools/rooms.py test $(if $(ROOM),--room $(ROOM)) -- $(ARGS)

up: setup ## Start the zoo and leave it running; prints how to call it
	@$(PYTHON) tools/zoo.py up

down: ## Stop what `make up` started
	@$(PYTHON) tools/zoo.py down

swap: ## Replace a member while clients ask: NETWORK=pspnet IMAGE=... (containers) or AT=host:port
	@test -n "$(NETWORK)" || { echo "say which network: make swap NETWORK=pspnet IMAGE=name:tag"; exit 2; }
	@test -n "$(IMAGE)$(AT)" || { echo "say by what: IMAGE=name:tag (containers) or AT=host:port"; exit 2; }
	@$(PYTHON) tools/swap.py $(NETWORK) $(if $(IMAGE),--image $(IMAGE),--at $(AT)) $(ARGS)

status: ## Which processes of the zoo are running
	@$(PYTHON) tools/zoo.py status

certs: setup ## Make certificates for development in certs/ (ARGS=--force renews them); see docs/security.md
	@libs/contract/.venv/bin/python tools/certs.py $(ARGS)

conform: setup ## Put a network container through the conformance suite: TARGET=host:port
	@libs/contract/.venv/bin/python -m spinezoo_contract.conformance $(TARGET) $(ARGS)

train: setup ## Train: NETWORK=pspnet DATA=folder or DATA=phantoms:SEED [PRESET=lite] [ARGS="--epochs 40"]
	@test -n "$(NETWORK)" || { echo "say which network: make train NETWORK=pspnet DATA=folder"; exit 2; }
	@test -d "services/$(NETWORK)" || { echo "no network $(NETWORK); there are: $$(ls services | grep -v README | xargs)"; exit 2; }
	@test -n "$(DATA)" || { echo "say on which films: DATA=phantoms:SEED, or DATA=folder with a VIA file (make train-set makes $(TRAIN_SET))"; exit 2; }
	@services/$(NETWORK)/.venv/bin/python -m spinezoo_$(NETWORK).train --data $(DATA) --preset $(PRESET) \
	  --card services/$(NETWORK)/card.yaml --run-dir runs/$(NETWORK)-$(PRESET) $(ARGS)

proto: setup ## Lint the protos and generate the Python code again
	@$(PYTHON) tools/proto.py $(ARGS)

manifests: setup ## Write deploy/kubernetes and Prometheus' targets from services/ and .env
	@tests/.venv/bin/python tools/manifests.py $(ARGS)

lock: ## Write every lock again (ARGS=--upgrade for newer versions)
	@$(PYTHON) tools/rooms.py lock $(if $(ROOM),--room $(ROOM)) $(ARGS)

lint: setup ## ruff, mypy, import-linter, buf
	@tests/.venv/bin/ruff check .
	@tests/.venv/bin/ruff format --check .
	@tests/.venv/bin/python -m pytest -q tests/architecture

format: setup ## Let ruff format the code
	@tests/.venv/bin/ruff format .
	@tests/.venv/bin/ruff check --fix .

images: ## Build the container images (ARGS=pspnet for some); docs/containers.md
	@$(PYTHON) tools/containers.py build $(ARGS)

containers-up: ## Start the composition and wait until it is healthy: gateway on 127.0.0.1:50050
	@$(PYTHON) tools/containers.py up

containers-down: ## Stop the composition
	@$(PYTHON) tools/containers.py down

containers-certs: certs ## The certificates of `make certs` for compose.tls.yaml
	@$(PYTHON) tools/containers.py certs

test-containers: ## Build all images, run the composition's tests (ENGINE=install makes a Docker Engine)
	@$(PYTHON) tools/containers.py engine $(if $(filter install,$(ENGINE)),--install)
	@$(PYTHON) tools/rooms.py setup --room tests
	@$(PYTHON) tools/containers.py test -- $(ARGS)

faults: ## Break a composition of its own in every way of docs/reliability.md and write its table (at most 40 min)
	@$(PYTHON) tools/rooms.py setup --room tests --room evaluator
	@cd tests && .venv/bin/python -m faults $(ARGS)

bento-build: setup ## A bento of each network in dist/ (ARGS=pspnet for some)
	@$(PYTHON) tools/containers.py bento $(ARGS)

torch-lock: ## Lock torch from another index, for small CPU images: INDEX=address
	@test -n "$(INDEX)" || { echo "say which index: make torch-lock INDEX=address"; exit 2; }
	@$(PYTHON) tools/rooms.py list >/dev/null
	@$(PYTHON) tools/containers.py torch-lock --index $(INDEX)

speed: setup ## Measure speed as ratios within one run (see docs/performance.md)
	@$(PYTHON) benchmarks/run.py $(ARGS)

clean: ## Remove all environments; data and reports stay
	@$(PYTHON) tools/rooms.py clean
