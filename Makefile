# Every target works as the first command after a clone: it makes .venv when that is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help venv demo bench test storm lint format lock

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/'

venv: ## create or update .venv with the pinned requirements and the ledgerline command
	@$(PYTHON) ops/bootstrap.py

demo: venv ## play a stream of payments through real Kafka and Postgres and prove it right (ARGS="--requests 5000")
	@$(BIN)/ledgerline demo $(ARGS)

test: venv ## run every test, on real Kafka and Postgres (ARGS="tests/engine -x")
	@$(BIN)/python -m pytest $(ARGS)

storm: venv ## kill and freeze everything while clients send, then prove it (SEED=7 ARGS="--seconds 300")
	@$(BIN)/python -m tests.storm --seed $(SEED) $(ARGS)

bench: venv ## measure Ledgerline beside a SQL function and a Faust application (ARGS="--rounds 1 --seconds 5")
	@$(BIN)/python -c "import faust" 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check "faust-streaming==0.15.3"
	@$(BIN)/python -m bench $(ARGS)

lint: venv ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv ## format and sort imports
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet

lock: ## pin the newest allowed versions with their hashes (needs uv)
	$(LOCK) --extra stack --extra dev --output-file requirements.txt
	$(LOCK) --no-annotate --constraint requirements.txt --output-file ops/requirements-runtime.txt
