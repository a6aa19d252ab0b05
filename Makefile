# The commands of this project; `make` alone lists them. PYTHON= names the interpreter that creates the environment.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := access_app console_app dispatcher_app monitoring_app tasks_app workers_app scheduler_site scripts tests benchmarks demo manage.py
BENCH ?= throughput firing closed_gates many_at_once
CORE_TESTS := tests/tasks_app tests/dispatcher_app tests/workers_app
COMPILE := $(BIN)/pip-compile --quiet --no-emit-index-url --no-emit-find-links --strip-extras
# System checks and the migration check must neither need nor touch a database that somebody uses.
CHECKING := DATABASE_URL=sqlite:///:memory: CELERY_BROKER_URL= SCHEDULER_SECRET_KEY=check-only-$(shell printf '%050d' 0)
PRODUCTION := SCHEDULER_ENV=production SCHEDULER_ALLOWED_HOSTS=scheduler.example SCHEDULER_ENCRYPTION_KEYS=$(shell echo check-only | sha256sum | cut -c1-64) SCHEDULER_SECRET_KEY=$(shell echo check-only | sha512sum | cut -c1-100) CELERY_BROKER_URL=amqps://broker.example//
export PYTHON

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: run
run: ## Start everything (web, dispatcher, worker; SQLite) on http://127.0.0.1:8000; PORT= and SCHEDULER_DATA_DIR= move it
	@sh scripts/environment.sh base
	@exec $(BIN)/python manage.py run_all

.PHONY: test
test: dev ## Run every test on real servers; ARGS="-k name" for some, TEST_DB=sqlite for SQLite
	@$(BIN)/python -m scripts.test_services -- $(MAKE) --no-print-directory tests

.PHONY: tests
tests: # What `make test` runs once the servers answer.
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	@status=0; \
	$(BIN)/python -m pytest -n 2 || status=$$?; \
	TEST_DB=sqlite $(BIN)/python -m pytest -n 2 -m "not processes" --database-only $(CORE_TESTS) || status=$$?; \
	exit $$status
endif

.PHONY: test-long
test-long: dev ## Recovery, outages and the random walk at full length: about an hour
	@TEST_LONG=1 $(BIN)/python -m scripts.test_services -- $(BIN)/python -m pytest tests/acceptance/test_brokers.py tests/acceptance/test_recovery.py tests/acceptance/test_chaos.py tests/acceptance/test_database_away.py tests/acceptance/test_endings.py tests/acceptance/test_hostile_work.py tests/acceptance/test_many_at_once.py tests/concurrency/test_sqlite_writers.py tests/test_masses.py tests/dispatcher_app/test_state_machine.py

.PHONY: test-chaos
test-chaos: dev ## Crash and freeze processes at every named point, then at random, then cut their links; TEST_LONG=1 kills 200, in an hour
	@TEST_CHAOS=1 $(BIN)/python -m scripts.test_services -- $(BIN)/python -m pytest tests/acceptance/chaos

.PHONY: check
check: dev ## Check format, lint, types, imports, migrations, settings, front-end files and translations
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(CHECKING) $(BIN)/python manage.py makemigrations --check --dry-run
	$(CHECKING) $(BIN)/python manage.py check --fail-level WARNING
	$(CHECKING) $(PRODUCTION) $(BIN)/python manage.py check --deploy
	$(BIN)/python scripts/vendor.py --check
	$(BIN)/python -m scripts.catalogues --check

.PHONY: fmt
fmt: dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

.PHONY: demo
demo: ## Load a sample project with real work into the database of `make run`
	@sh scripts/environment.sh base
	@$(BIN)/python manage.py migrate --verbosity 0
	@$(BIN)/python manage.py load_demo

.PHONY: bench
bench: dev ## Measure beside the usual Celery set-up on the same servers; BENCH= names one of benchmarks/, ARGS=--short is quick
	@for one in $(BENCH); do $(BIN)/python -m scripts.test_services -- $(BIN)/python -m benchmarks.$$one $(ARGS) || exit; done

.PHONY: vendor
vendor: dev ## Fetch the front-end files again (needs npm)
	$(BIN)/python scripts/vendor.py

.PHONY: lock
lock: dev ## Resolve requirements/*.in into the pinned *.txt
	$(COMPILE) --output-file=requirements/base.txt requirements/base.in
	$(COMPILE) --output-file=requirements/dev.txt requirements/dev.in

.PHONY: messages
messages: dev ## Collect the texts to translate and compile the catalogues
	$(BIN)/python -m scripts.catalogues

.PHONY: clean
clean: ## Remove the environment and caches; data under var/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis staticfiles test-artifacts
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: dev
dev:
	@sh scripts/environment.sh dev
