# Every target installs what it needs into .venv, once per change of pyproject.toml or constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-all lint bench web clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[unet,train,service,test,lint]'
	touch $@

demo: $(STAMP)  ## run the main job on the simulated archive into demo/
	$(BIN)/cubekit demo demo

test: $(STAMP)  ## the tests, on both cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(STAMP)  ## the slow tests too
	$(BIN)/python -m pytest -n 2 --dist worksteal -m ''

lint: $(STAMP)  ## formatting, lint and types; the containers' files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml compose.cuda.yaml
	$(BIN)/compose-lint compose.yaml

bench: $(STAMP)  ## the benchmarks, beside their peers
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks

web:  ## build the page of the service into the package (needs node)
	cd web && npm ci --ignore-scripts && npm run build

clean:  ## remove what the targets made, the environment excepted
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache
