# The only door. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
# The commands of tools/: those that need nothing but Python, and those that need an environment.
TOOL := PYTHONPATH=tools/src $(PYTHON) -m spinezoo_tools
CORE := .venvs/core/bin/python
PACS := .venvs/pacs/bin/python
TESTS := .venvs/tests/bin/python
# Behind commands that only print: whose reader has gone (`make status | head -1`) is not failed.
OR_UNREAD := || [ $$? -eq 141 ]
export BENTOML_DO_NOT_TRACK := True
export ORT_DISABLE_TELEMETRY := 1
# Without bytecode each of our many processes compiles its framework anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

# What `make benchmark` measures: the built-in phantom test set, or DATA=folder of yours.
TEST_SET := data/phantom-test
TEST_FILMS ?= 100
TEST_SEED ?= 20260
TRAIN_FILMS ?= 1000
TRAIN_SET := data/phantom-train-$(TRAIN_FILMS)
TRAIN_SEED ?= 730
SHEET_SEED ?= 77
# Phantoms on which names and measures are calibrated: a set a seed, of seeds that no other set has.
CALIBRATION_SEEDS ?= 771 772 773 776 777
CALIBRATION_FILMS ?= 80
CALIBRATION_SETS := $(addprefix phantom-calibration-,$(CALIBRATION_SEEDS))
MINUTES ?= 10
DATA ?=
FROM ?=
TO ?=
FORMAT ?= via2
CHECKOUT ?=
QUERY ?=
OUT ?=

# A value as one word of the shell, whatever is in it; and the last part of a path.
define newline


endef
quote = '$(subst $(newline),'$$'\n'',$(subst ','\'',$(1)))'
name_of = $(shell $(PYTHON) -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).resolve().name)' $(call quote,$(1)))
RUN ?= $(if $(DATA),$(call name_of,$(DATA)),phantom-test)

NETWORK ?=
IMAGE ?=
AT ?=
PRESET ?= lite
ARGS ?=
JOBS ?= 2
TARGET ?=

# Every option there is. A make that a command starts (a test, `make speed`) gets none of ours.
# Below the defaults: `unexport` would be taken for one.
OPTIONS := A ARGS AT B CALIBRATION_FILMS CALIBRATION_SEEDS CHECKOUT DATA ENGINE FORMAT FROM IMAGE INDEX JOBS MINUTES \
  NETWORK OUT PRESET QUERY ROOM RUN SHEET_SEED TARGET TEST_FILMS TEST_SEED TO TRAIN_FILMS TRAIN_SEED
unexport MAKEFLAGS MFLAGS $(OPTIONS)

# Both commands look at their input first (--check), before the zoo is started for them.
BENCHMARK = $(CORE) -m spinezoo_evaluator.benchmark \
  --data $(call quote,$(if $(DATA),$(DATA),$(TEST_SET))) --report $(call quote,reports/$(RUN))
REAL_CHECK = $(CORE) -m spinezoo_evaluator.benchmark.real_check \
  --data $(call quote,$(DATA)) --report $(call quote,reports/real-check-$(call name_of,$(DATA)))

.PHONY: compare fuzz help setup setup-serving export benchmark test-set train-set phantoms-sheet test up down status conform train proto generate lock lint format speed clean swap certs real-check figures convert
.PHONY: test-gpu-images faults images containers-up containers-down containers-certs test-containers bento-build torch-lock

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

setup: ## Make every environment (downloads from the package registry, shows progress)
	@$(TOOL).environments setup

setup-serving: ## Make the environments that serve and measure; no deep-learning framework
	@$(TOOL).environments setup --serving

# What the zoo and its measuring run in: without the DICOM node's.
ZOO_ROOMS := gateway evaluator $(patsubst %/card.yaml,%,$(wildcard services/*/card.yaml))
.PHONY: setup-zoo
setup-zoo:
	@$(TOOL).environments setup --serving $(addprefix --room ,$(ZOO_ROOMS))

.PHONY: setup-core
setup-core:
	@$(TOOL).environments setup --room evaluator

benchmark: setup-zoo $(if $(DATA),,test-set) ## Measure the zoo and write the report: on phantoms, or DATA=folder of films with outlines
	@$(BENCHMARK) --check $(ARGS)
	@$(TOOL).processes run -- $(BENCHMARK) $(ARGS)

real-check: setup-zoo ## Measure recognition and names on films with corner truth: DATA=folder
	@test -n $(call quote,$(DATA)) || { echo "say on which films: DATA=folder with a corner file (docs/labelling.md)"; exit 2; }
	@$(REAL_CHECK) --check $(ARGS)
	@$(TOOL).processes run -- $(REAL_CHECK) $(ARGS)

.PHONY: check
check: setup-core ## Check the outlines of a folder before anything reads them: DATA=folder
	@test -n $(call quote,$(DATA)) || { echo "say which outlines: make check DATA=folder (docs/data-format.md)"; exit 2; }
	@$(CORE) -m spinezoo_spine.annotations.lint $(call quote,$(DATA)) $(ARGS) $(OR_UNREAD)

convert: setup-core ## Write outlines in another form: FROM=file TO=file [FORMAT=via1|via2|via3|coco]
	@test -n $(call quote,$(FROM)) -a -n $(call quote,$(TO)) || { echo "say from what to what: make convert FROM=via.json TO=coco.json FORMAT=coco"; exit 2; }
	@$(CORE) -m spinezoo_spine.annotations.convert --from $(call quote,$(FROM)) --to $(call quote,$(TO)) --format $(FORMAT) $(ARGS)

report: setup ## Write the page of a finished run again, without the zoo: [RUN=phantom-test] [DATA=folder of its films]
	@$(CORE) -m spinezoo_evaluator.benchmark.page $(call quote,reports/$(RUN)) $(if $(DATA),--data $(call quote,$(DATA))) $(ARGS)

.PHONY: report report-pictures
report-pictures: setup ## Take the pictures of docs/images from a report on phantoms and its page: [RUN=phantom-test]
	@$(CORE) -m spinezoo_evaluator.benchmark.page $(call quote,reports/$(RUN)) --picture docs/images/answer.png
	@$(CORE) -m spinezoo_evaluator.report.screenshots $(call quote,reports/$(RUN)) $(ARGS)

compare: ## Print every figure in which two reports differ, times aside: A=folder B=folder
	@$(TOOL).compare $(call quote,$(A)) $(call quote,$(B)) $(OR_UNREAD)

test-set: setup-core ## Make the phantom test set (100 films, DICOM) if it is not there
	@$(CORE) -m spinezoo_phantom --out $(TEST_SET) \
	  --count $(TEST_FILMS) --seed $(TEST_SEED) --format dicom --workers 0

train-set: setup-core ## Make a phantom training set (TRAIN_FILMS=1000, PNG) if it is not there
	@$(CORE) -m spinezoo_phantom --out $(TRAIN_SET) \
	  --count $(TRAIN_FILMS) --seed $(TRAIN_SEED) --format png --workers 0

CALIBRATION_RUNS = --run $(addprefix reports/,$(CALIBRATION_SETS)) --data $(addprefix data/,$(CALIBRATION_SETS))
CALIBRATION_ANSWERS = for set in $(CALIBRATION_SETS); do $(CORE) -m spinezoo_evaluator.benchmark \
  --data data/$$set --report reports/$$set --no-pictures $(or $(ARGS),--resume) || exit; done
.PHONY: calibrate
calibrate: setup-zoo ## Fit names and measures again on 400 phantoms that the zoo answers; goes on where it was stopped (ARGS=--fresh: asks anew)
	@for seed in $(CALIBRATION_SEEDS); do $(CORE) -m spinezoo_phantom --out data/phantom-calibration-$$seed \
	  --count $(CALIBRATION_FILMS) --seed $$seed --format dicom --workers 0 || exit; done
	@$(TOOL).processes run -- bash -c $(call quote,$(CALIBRATION_ANSWERS))
	@$(CORE) -m spinezoo_evaluator.names $(CALIBRATION_RUNS)
	@$(CORE) -m spinezoo_evaluator.measures fit $(CALIBRATION_RUNS)

phantoms-sheet: setup-core ## Draw phantom films for looking at, beside real ones with DATA=folder of PNG films
	@$(CORE) -m spinezoo_phantom --count 16 --seed $(SHEET_SEED) \
	  --sheet reports/phantoms-sheet.png $(if $(DATA),--beside $(call quote,$(DATA)))
	@echo reports/phantoms-sheet.png

test: setup ## Run every test (ROOM=libs/spine for one room, ARGS for pytest, JOBS=2 rooms at a time)
	@$(TOOL).environments test $(if $(ROOM),--room $(ROOM)) --jobs $(JOBS) -- $(ARGS)

up: setup-serving ## Start the zoo and leave it running; prints how to call it
	@$(TOOL).processes up

down: ## Stop what `make up` started
	@$(TOOL).processes down

swap: ## Replace a member while clients ask: NETWORK=pspnet IMAGE=... (containers) or AT=host:port
	@test -n "$(NETWORK)" || { echo "say which network: make swap NETWORK=pspnet IMAGE=name:tag"; exit 2; }
	@test -n "$(IMAGE)$(AT)" || { echo "say by what: IMAGE=name:tag (containers) or AT=host:port"; exit 2; }
	@$(TOOL).swap $(NETWORK) $(if $(IMAGE),--image $(IMAGE),--at $(AT)) $(ARGS)

status: ## Which processes of the zoo are running
	@$(TOOL).processes status $(OR_UNREAD)

certs: setup ## Make certificates for development in certs/ (ARGS=--force renews them); see docs/security.md
	@$(TESTS) -m spinezoo_tools.certs $(ARGS)

conform: setup-core ## Put a network container through the conformance suite: TARGET=host:port
	@test -n "$(TARGET)" || { echo "say which container: make conform TARGET=127.0.0.1:50051"; exit 2; }
	@$(CORE) -m spinezoo_conformance $(TARGET) $(ARGS)

# The reader that names vertebrae is no member of the zoo, but is trained by the same command.
TRAIN_NAMER = $$($(TOOL).environments python --room namer) -m spinezoo_namer.train \
  $(if $(DATA),--data $(DATA)) --run-dir runs/namer $(ARGS)

# So is the refiner of corners and endplates.
TRAIN_REFINER = $$($(TOOL).environments python --room refiner) -m spinezoo_refiner.train \
  $(if $(DATA),--data $(DATA)) --run-dir runs/refiner $(ARGS)

train: setup ## Train: NETWORK=pspnet DATA=folder or DATA=phantoms:SEED [PRESET=lite] [ARGS="--epochs 40"]; or NETWORK=namer, refiner
	@test -n "$(NETWORK)" || { echo "say which network: make train NETWORK=pspnet DATA=folder"; exit 2; }
ifeq ($(NETWORK),namer)
	@$(TRAIN_NAMER)
else ifeq ($(NETWORK),refiner)
	@$(TRAIN_REFINER)
else
	@test -d "services/$(NETWORK)" || { echo "no network $(NETWORK); there are: $$(ls services | grep -v README | xargs)"; exit 2; }
	@test -n $(call quote,$(DATA)) || { echo "say on which films: DATA=phantoms:SEED, or DATA=folder with a VIA file (make train-set makes $(TRAIN_SET))"; exit 2; }
	@$$($(TOOL).environments python --room services/$(NETWORK)) -m spinezoo_$(NETWORK).train --data $(call quote,$(DATA)) --preset $(PRESET) \
	  --card services/$(NETWORK)/card.yaml --run-dir runs/$(NETWORK)-$(PRESET) $(ARGS)
endif

.PHONY: collect annotate pacs-demo viewers pacs-kills
collect: setup ## Collect films from a PACS, de-identified on arrival: QUERY=query.yaml OUT=folder (docs/pacs.md)
	@test -n $(call quote,$(QUERY)) -a -n $(call quote,$(OUT)) || { echo "say what and whereto: make collect QUERY=query.yaml OUT=folder (docs/pacs.md)"; exit 2; }
	@$(PACS) -m spinezoo_pacs.collect.command --query $(call quote,$(QUERY)) --out $(call quote,$(OUT)) $(ARGS)

annotate: setup ## First outlines by the running zoo, for correcting in VIA: DATA=folder; ARGS=--finish takes them
	@test -n $(call quote,$(DATA)) || { echo "say of which films: make annotate DATA=folder (docs/pacs.md); make up starts the zoo"; exit 2; }
	@$(PACS) -m spinezoo_pacs.annotate.command --data $(call quote,$(DATA)) $(if $(TARGET),--gateway $(TARGET)) $(ARGS)

pacs-demo: setup ## Phantoms into an Orthanc of its own, answered by the running zoo (make up), results back
	@$(PACS) -m spinezoo_pacs.demo $(if $(TARGET),--gateway $(TARGET)) $(ARGS)

viewers: setup ## What OHIF, dcmtk and Orthanc show of the results; pictures in reports/viewers (docs/viewers.md)
	@cd pacs && ../$(PACS) -m pytest -q tests/shown_in_viewers.py $(ARGS)

pacs-kills: setup ## 500 films while node, gateway and Orthanc are killed in turn (half an hour)
	@cd pacs && SPINEZOO_PACS_FILMS=500 ../$(PACS) -m pytest -q tests/test_node_kills.py -k kills_lose $(ARGS)

EXPORTED = $(if $(NETWORK),$(NETWORK),$(patsubst services/%/card.yaml,%,$(wildcard services/*/card.yaml)))
export: setup ## Write the engines' graphs of shipped weights again (training does it by itself): [NETWORK=pspnet] [PRESET=lite] [ARGS=--int8]
	@for name in $(EXPORTED); do \
	  python=$$($(TOOL).environments python --room services/$$name) || exit 1; \
	  $$python -m spinezoo_$$name.train --export \
	    --card services/$$name/card.yaml --preset $(PRESET) $(ARGS) || exit 1; \
	done

proto: setup ## Lint the protos and generate the Python code again
	@$(TOOL).proto $(ARGS)

generate: setup ## Write every file that lists networks (compose, rosters, manifests, ...) from services/
	@$(TESTS) -m spinezoo_tools.generate $(ARGS)

lock: ## Write every lock again (ARGS=--upgrade for newer versions)
	@$(TOOL).environments lock $(if $(ROOM),--room $(ROOM)) $(ARGS)

fuzz: setup ## Send films, outline files and messages made by chance at the readers: [MINUTES=10] in all
	@awk -v all="$(MINUTES)" 'BEGIN { exit !(all ~ /^[0-9]+([.][0-9]+)?$$/ && all > 0) }' \
	  || { echo "MINUTES=$(MINUTES) is no time: make fuzz MINUTES=10"; exit 2; }
	@SPINEZOO_FUZZ_MINUTES=$$(awk -v all="$(MINUTES)" -v parts="$$(ls tests/fuzz/test_*.py | wc -l)" 'BEGIN { print all / parts }'); \
	  export SPINEZOO_FUZZ_MINUTES; cd tests && ../$(TESTS) -m pytest -q fuzz $(ARGS)

lint: setup ## ruff, mypy, import-linter, buf
	@$(TESTS) -m ruff check .
	@$(TESTS) -m ruff format --check .
	@$(TESTS) -m pytest -q tests/architecture

format: setup ## Let ruff format the code
	@$(TESTS) -m ruff format .
	@$(TESTS) -m ruff check --fix .

images: ## Build the container images (ARGS=pspnet for some); docs/containers.md
	@$(TOOL).containers build $(ARGS)

containers-up: ## Start the composition and wait until it is healthy: gateway on 127.0.0.1:50050
	@$(TOOL).containers up

containers-down: ## Stop the composition
	@$(TOOL).containers down

containers-certs: certs ## The certificates of `make certs` for compose.tls.yaml
	@$(TOOL).containers certs

test-containers: ## Build all images, run the composition's tests (ENGINE=install makes a Docker Engine)
	@$(TOOL).containers engine $(if $(filter install,$(ENGINE)),--install)
	@$(TOOL).environments setup --room tests
	@$(TOOL).containers test -- $(ARGS)

test-gpu-images: ## Build the networks' images for GPUs and try them, also without one (large; ARGS="pspnet unet" for some)
	@$(TOOL).environments setup --room tests
	@$(TOOL).containers test-gpu $(ARGS)

faults: ## Break a composition of its own in every way of docs/reliability.md and write its table (at most 40 min)
	@$(TOOL).environments setup --room tests --room evaluator
	@$(TESTS) -m spinezoo_tools.faults $(ARGS)

bento-build: setup ## A bento of each network in dist/ (ARGS=pspnet for some)
	@$(TOOL).containers bento $(ARGS)

torch-lock: ## Lock torch from another index, for small CPU images: INDEX=address
	@test -n "$(INDEX)" || { echo "say which index: make torch-lock INDEX=address"; exit 2; }
	@$(TOOL).environments list >/dev/null
	@$(TOOL).containers torch-lock --index $(INDEX)

speed: setup ## Measure speed (docs/performance.md): [CHECKOUT=older checkout, set up] [ARGS="--record gateway"]
	@$(CORE) benchmarks/run.py $(if $(CHECKOUT),--other $(call quote,$(CHECKOUT))) $(ARGS)

figures: ## Write the figures of README and docs from what `make benchmark`, `make real-check` and `make speed` leave
	@$(TOOL).figures $(ARGS)

MEASURED_FILM = $(TEST_SET)/film_0085.dcm# a rod that is whole, no disc without height
.PHONY: page-films screens
page-films: setup ## Make the example films of the page again (phantoms)
	@$(CORE) gateway/screens/films.py

SCREENS = $(CORE) gateway/screens/screens.py $(ARGS) && $(CORE) gateway/screens/measured.py $(MEASURED_FILM)
screens: setup test-set ## Take the pictures of the page and of measures for docs/ (needs chromium and chromium-driver)
	@$(TOOL).processes run -- bash -c $(call quote,$(SCREENS))

clean: ## Remove all environments; data and reports stay
	@$(TOOL).environments clean
