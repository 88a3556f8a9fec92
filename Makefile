# `make demo` and `make test` do all the set-up on a fresh machine (Python 3.11 or newer, make, git).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where `make kafka` listens, on the loopback interface.
KAFKA_PORT ?= 9092
# setuptools tells at length that an editable install is one.
INSTALL := PYTHONWARNINGS='ignore:Editable installation' $(BIN)/pip install --quiet --editable
# Many tests wait for processes that they started or killed: three files at once take half the time.
AT_ONCE ?= 3
SOURCES := $(shell find resources projections streams clients cli testing placement_api ui -name '*.py') $(shell find ui/static ui/templates -type f) setup.py

.PHONY: demo kafka test check types tests bench soak explore docs dist audit clean

demo: $(VENV)/.installed
	$(BIN)/vacancy demo

# One broker to try Kafka without Docker, until Ctrl-C. It needs Java 17 and Maven.
kafka: $(VENV)/.installed
	$(BIN)/python -m tests.support.processes.kafka_server $(KAFKA_PORT)

test: check tests

check: $(VENV)/.dev types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.support.packaging.licences

# Known vulnerabilities of what is installed. It asks PyPI about each version, so it is not part of `make check`; --strict makes
# an error of each package that was not answered for, as by a mirror without PyPI's JSON API.
audit: $(VENV)/.dev
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --strict --skip-editable --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"

types: $(VENV)/.dev
	$(BIN)/mypy

# The tests start hundreds of processes: each would compile all modules again, where Python may not write bytecode.
tests: export PYTHONDONTWRITEBYTECODE =
tests: $(VENV)/.dev
	$(BIN)/pytest -n $(AT_ONCE) --dist loadfile --no-loadscope-reorder

# Compares the figures in evaluation/thresholds.toml; exits with 1 if one is beyond its margin. No other work should run.
bench: $(VENV)/.dev
	$(BIN)/python -m evaluation bench

soak: $(VENV)/.dev
	$(BIN)/python -m evaluation soak --warm-up 8 --minutes 30 --json

# Random inputs that were never tried before, for some hours: run it before a release.
explore: $(VENV)/.dev
	for round in $$(seq 5); do VACANCY_EXAMPLES=new $(BIN)/pytest -q $$(grep -l hypothesis -r tests --include='test_*.py') || exit 1; done
	$(BIN)/pytest -q -m long
	VACANCY_FLEETS=2000 $(BIN)/pytest -q -s tests/projections/query/test_solver.py tests/projections/query/test_gang.py tests/projections/query/affinity/test_solver_relations.py tests/clients/scheduler/moves/test_solver_moves.py tests/clients/scheduler/test_solver_quotas.py
	VACANCY_FUZZ_NOISE=1.25 VACANCY_FUZZ_FIRST=$$(date +%s) VACANCY_FUZZ_RECORDS=2000000 $(BIN)/pytest -q tests/fuzz/test_log_fuzzer.py
	VACANCY_FUZZ_NOISE=1.25 VACANCY_FUZZ_STEPS=2000 $(BIN)/pytest -q --timeout 0 tests/fuzz/expensive/test_expensive_records.py
	VACANCY_DECODER_SECONDS=600 VACANCY_FUZZ_FIRST=$$(date +%s) $(BIN)/pytest -q --timeout 0 tests/fuzz/test_decoders.py
	VACANCY_QUOTA_ROUNDS=100 $(BIN)/pytest -q --timeout 0 tests/clients/scheduler/test_quotas.py tests/clients/scheduler/test_quotas_killed.py
	VACANCY_CELL_MOVE_ROUNDS=100 $(BIN)/pytest -q --timeout 0 tests/clients/scheduler/moves/test_cell_moves_killed.py
	VACANCY_FUZZ_ROUNDS=200 $(BIN)/pytest -q --timeout 0 tests/fuzz/damage/test_lost_commits.py
	VACANCY_SNAPSHOT_KILLS=50 VACANCY_FUZZ_DAMAGES=120 $(BIN)/pytest -q --timeout 0 tests/projections/snapshots tests/clients/snapshots
	VACANCY_ARCHIVE_KILLS=70 VACANCY_ARCHIVE_FLIPS=1000 $(BIN)/pytest -q --timeout 0 tests/streams/archive tests/clients/archives
	VACANCY_HISTORY_KILLS=50 $(BIN)/pytest -q --timeout 0 tests/clients/past
	VACANCY_REPLAY_KILLS=70 $(BIN)/pytest -q --timeout 0 tests/clients/replay_tool/test_swap.py
	VACANCY_DIGEST_KILLS=50 $(BIN)/pytest -q --timeout 0 tests/clients/runtime/test_state_digester.py
	VACANCY_FUZZ_DAMAGES=120 $(BIN)/pytest -q --timeout 0 tests/fuzz/damage/test_damage_at_rest.py tests/fuzz/damage/test_damage_in_use.py tests/fuzz/damage/test_damage_of_kafka.py tests/streams/sqlite/test_damaged_file.py
	VACANCY_RAISED_LOGS=500 VACANCY_TRANSACTION_SEEDS=500 $(BIN)/pytest -q --timeout 0 tests/resources/fold/test_raised_properties.py tests/resources/fold/transactions/test_transactions_properties.py
	VACANCY_LIVE_KILLS=50 $(BIN)/pytest -q --timeout 0 tests/live/test_live_killed.py
	VACANCY_PLACEMENT_BACKENDS=placement,kafka,memory $(BIN)/pytest -q -s --timeout 0 tests/placement_api/test_gabbi.py
	$(BIN)/python -m tests.placement_api.suites.client_suites
	VACANCY_PLACEMENT_REQUESTS=10000 $(BIN)/pytest -q --timeout 0 tests/placement_api/test_differential.py
	VACANCY_PLACEMENT_BRIMS=100 VACANCY_PLACEMENT_KILLS=50 $(BIN)/pytest -q --timeout 0 tests/placement_api/test_serve.py tests/placement_api/test_killed.py
	VACANCY_PLACEMENT_BAD_S=600 $(BIN)/pytest -q --timeout 0 tests/placement_api/test_bad_input.py
	VACANCY_TRANSFER_SEEDS=200 $(BIN)/pytest -q --timeout 0 tests/placement_api/transfer/test_there_and_back.py
	VACANCY_SEED=100-160 $(BIN)/pytest -q --timeout 0 tests/simulator
	for seed in $$(seq 101 130); do VACANCY_SEED=$$seed $(BIN)/pytest -q tests/faults/test_killed.py || exit 1; done

# What is generated in docs/, and cli/completion_table.py: tests compare the committed files with the code. Then the site, in
# build/site: no network is used, and a warning is an error.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.dev
	$(BIN)/python -m tests.support.documentation.api_reference
	$(BIN)/python -m tests.support.documentation.reference_pages
	$(BIN)/python -m tests.support.documentation.event_documents
	$(BIN)/python -m tests.support.documentation.flow_picture
	$(BIN)/python -m tests.support.documentation.completion_table
	$(BIN)/python -m tests.support.documentation.metrics_reference
	$(BIN)/python -m mkdocs build --quiet --strict

# A wheel and a source distribution in dist/, checked, installed in a new virtual environment and run there.
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation .
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m tests.support.packaging.clean_install dist/*.whl

# The strict editable install is a tree of links, so that type checkers see the packages. It is made again when
# a file is added, removed or renamed.
$(VENV)/.dev: $(VENV)/.pip pyproject.toml $(SOURCES)
	$(INSTALL) '.[dev]' --config-settings editable_mode=strict
	@touch $(VENV)/.dev $(VENV)/.installed

$(VENV)/.installed: $(VENV)/.pip pyproject.toml $(SOURCES)
	@echo 'installing vacancy and its dependencies into $(VENV): one or two minutes'
	$(INSTALL) . --config-settings editable_mode=strict
	@touch $(VENV)/.installed

$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@touch $(VENV)/.pip

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
