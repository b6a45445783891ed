# Two commands on a fresh machine: `make demo` and `make test`. All they need goes into .venv; the only
# prerequisites are make and a Python 3.11 or newer (PYTHON=... chooses one).

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.tagstream-setup
NEEDED_GB := 8
PYTHON ?=
ARGS ?=

# Units first: what is wrong in a function should not first be seen as a broken stream.
TESTS := $(wildcard tests/unit tests/property tests/contract tests/integration tests/browser tests/fault tests/benchmark)

.PHONY: help setup same-place demo test lint fuzz bench bench-peers bench-record chaos soak kubernetes compose-test upgrade-test
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: same-place $(STAMP) ## install everything into .venv (the others do it by themselves)

demo: setup ## the whole system on a real Kafka and a real Redis; ARGS="--keep", ARGS="--data DIR"
	@$(BIN)/tagstream demo $(ARGS)

# By files, so many at a time: much of a test on real parts is waiting, for a session to run out, a broker to be back.
test: setup ## every test, on a real Kafka and a real Redis; ARGS="-k thresholds", JOBS=1 for one at a time
	@$(BIN)/python -m pytest -n $(or $(JOBS),2) --dist loadfile $(TESTS) $(ARGS)

lint: setup ## style, layers, types, licences, and a parts list in build/sbom.json
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy
	@$(BIN)/bandit -q -r streamer model ops -c pyproject.toml
	@$(BIN)/python -m ops.licences --check
	@$(BIN)/python -m ops.grafana.make_dashboards --check
	@$(BIN)/pre-commit validate-config .pre-commit-config.yaml
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.gpu.yml \
		tests/compose/standins/override.yml
	@ops/ci/compose-config.sh
	@$(BIN)/hadolint ops/Dockerfile tests/compose/standins/Dockerfile
	@$(BIN)/check-jsonschema --check-metaschema docs/schema/*.schema.json
	@mkdir -p build && $(BIN)/cyclonedx-py environment $(BIN)/python --sv 1.6 --validate -o build/sbom.json

fuzz: setup ## random and spoiled events until something gives; MINUTES=30 SEED=7
	@$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),5) --seed $(or $(SEED),1)

bench: bench-peers ## our worker beside every other way, where its time goes, its networks: eight minutes; ARGS="--rounds 1"
	@$(BIN)/tagstream bench peers --events 60000 $(ARGS)
	@$(BIN)/tagstream bench stages
	@$(BIN)/tagstream bench model

# 25 minutes on a machine that does nothing else: all of docs/performance.md, pictures and tables.
RECORD := $(BIN)/tagstream bench
bench-record: bench-peers ## take all figures of docs/performance.md anew; leave the machine alone meanwhile
	@$(RECORD) peers --out docs/performance
	@for lane in json arrow; do \
		$(RECORD) worker --lane $$lane --out docs/performance && $(RECORD) scale --lane $$lane --out docs/performance \
			&& $(RECORD) stages --lane $$lane --out docs/performance || exit 1; done
	@for workers in 1 2; do $(RECORD) worker --scorer served --workers $$workers --out docs/performance || exit 1; done
	@$(RECORD) latency --out docs/performance
	@$(RECORD) model --out docs/performance
	@$(BIN)/python -m ops.bench.document

# Each in an environment of its own, because its pins do not fit beside ours; one that cannot be had is told, and missing.
bench-peers: setup ## install what `make bench` compares with and setup does not: Quix Streams, Pathway
	@for peer in quix pathway; do own=$(VENV)/peers/$$peer; pins=ops/bench/own/$$peer.txt; \
		if cmp -s $$pins $$own/installed.txt; then continue; fi; \
		echo "Installing $$peer into $$own." >&2; \
		$(BIN)/python -m venv --clear $$own \
			&& $$own/bin/python -m pip install --disable-pip-version-check -q -r $$pins && cp $$pins $$own/installed.txt \
			|| { rm -rf $$own; echo "make: $$peer could not be installed; it will be missing from the comparison." >&2; }; \
	done

chaos: setup ## faults on a seeded schedule: MINUTES=30 SEED=7, SEEDS=10 of them one after the other, ARGS="..."
	@$(BIN)/python -m tests.fault.lab $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

soak: setup ## steady load, swaps, model switches, restarts, and nothing may grow: HOURS=0.33 SEED=7, ARGS="--rate 300"
	@$(BIN)/python -m tests.fault.soak $(if $(HOURS),--hours $(HOURS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

kubernetes: setup ## ops/k8s against the schemas of Kubernetes and KEDA; needs Go, builds kustomize and kubeconform
	@ops/ci/kubernetes.sh

compose-test: setup ## docker-compose.yml really run, in Docker or else podman as root: a load, a swap, a kill; KEEP=1
	@PYTHON=$(BIN)/python tests/compose/engine.sh

upgrade-test: setup ## a rolling upgrade and back under load, with two builds of the package; FROM=commit
	@UPGRADE_FROM=$(FROM) $(BIN)/python -m pytest -q -s -m slow tests/fault/test_rolling_upgrade.py $(ARGS)

# A virtual environment holds absolute paths: one that was moved, or has lost its Python, is made anew.
same-place:
	@if [ -e $(STAMP) ] && { [ "$$(cat $(STAMP))" != "$(CURDIR)" ] || ! $(BIN)/python -c "" 2>/dev/null; }; then \
		echo "make: $(VENV) was made elsewhere or has lost its Python; making it anew." >&2; rm -rf $(VENV); fi

$(STAMP): pyproject.toml constraints.txt
	@$(CHECK_DISK)
	@if ! $(BIN)/python -c "import pip" 2>/dev/null; then $(FIND_PYTHON); "$$python" -m venv --clear $(VENV); fi
	@echo "Installing into $(VENV); the first time that is about 6 GB and takes a few minutes." >&2
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,bench]' -c constraints.txt
	@printf '%s' "$(CURDIR)" > $(STAMP)

# Only before the large packages are there; later changes of a few megabytes need no such room.
define CHECK_DISK
[ -w . ] || { echo "make: $(CURDIR) cannot be written, so $(VENV) cannot be made there." >&2; exit 1; }; \
free_kb=$$(df -Pk . | awk 'NR == 2 { print $$4 }'); \
if [ -z "$$(ls -d $(VENV)/lib/python*/site-packages/torch 2>/dev/null)" ] \
	&& [ "$$free_kb" -lt $$(($(NEEDED_GB) * 1024 * 1024)) ]; then \
	echo "make: $$((free_kb / 1024 / 1024)) GB are free at $(CURDIR); installing needs $(NEEDED_GB)." >&2; exit 1; fi
endef

# The first that is new enough and can make virtual environments (Debian has that in a package of its own).
define FIND_PYTHON
python=""; \
for candidate in $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3.14 python3); do \
	if "$$candidate" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then \
		python="$$candidate"; break; fi; \
done; \
[ -n "$$python" ] || { echo "make: no Python 3.11 or newer with its venv module was found; install one (on Debian" \
	"and Ubuntu python3 and python3-venv) or name it: make setup PYTHON=/path/to/python3." >&2; exit 1; }
endef
