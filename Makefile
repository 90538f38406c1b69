# Everything a developer does daily. Each target sets up what it needs by itself.

PYTHON ?= python3
VENV ?= .venv
CHROMIUM ?= chromium
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ONE_THREAD := OMP_NUM_THREADS=1 # for each of two workers: models are small, and cores are few
SITE := import sysconfig; print(sysconfig.get_path('purelib'))

.PHONY: help gate test test-all models operators lint format coverage fuzz mutants faults screenshot docs build packaging clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

gate: $(INSTALLED) ## Hold this project's own budgets; write reports/flops.json and flops.html
	$(BIN)/python -m pytest budgets --flops-report reports

test: $(INSTALLED) ## Run the tests, without the long ones: about four minutes on two cores
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m "not long" --flops-report reports

test-all: $(INSTALLED) ## Run every test, with many more generated examples
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --hypothesis-profile thorough --flops-report reports

models: $(INSTALLED) ## Count models of many libraries on fakes and for real (docs/models.md)
	$(BIN)/python -m venv build/models-env
	$(BIN)/python -c "$(SITE)" > $$(build/models-env/bin/python -c "$(SITE)")/beside.pth
	build/models-env/bin/python -m pip install --quiet --constraint constraints.txt \
	  transformers timm diffusers torch-geometric peft accelerate lightning scipy
	PYTHONPATH=$(CURDIR) build/models-env/bin/python models/sweep.py --write docs/models.md

operators: $(INSTALLED) ## Count PyTorch's own samples of every operator, in every form
	$(BIN)/python -m pip install --quiet --constraint constraints.txt expecttest numpy
	$(BIN)/python -m pytest -n 2 tests/counting/test_every_operator.py --flops-report=

lint: $(INSTALLED) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A test that fills the disk would fill it for coverage, too.
coverage: $(INSTALLED) ## Run every test and say which lines and branches none runs
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --flops-report= -k "not stops_halfway"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

fuzz: $(INSTALLED) ## Feed 150,000 broken budget, lock and report files to the readers
	FUZZ_INPUTS=50000 $(BIN)/python -m pytest -n 2 tests/test_fuzz.py tests/reports/test_fuzzed_reports.py --flops-report=

mutants: $(INSTALLED) ## Plant regressions and mistakes; the gate must catch each (docs/mutants.md)
	$(BIN)/python mutants/plant.py --write docs/mutants.md

faults: $(INSTALLED) ## Kill what writes files, 600 times; each must be whole, the old or the new
	$(BIN)/python mutants/kill.py

screenshot: $(INSTALLED) ## Take the README's picture of a sample report, with Chromium
	$(BIN)/python examples/sample_report.py build/sample-report
	mkdir -p docs/images
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1024,1490 \
	  --user-data-dir=$$(mktemp -d) --screenshot=docs/images/report.png \
	  file://$(CURDIR)/build/sample-report/flops.html

docs: $(INSTALLED) ## Build the documentation into build/site
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/zensical build --strict

build: $(INSTALLED) ## Build the sdist and the wheel into dist/
	$(BIN)/python -m build

packaging: $(INSTALLED) ## Build the sdist and the wheel, look into them, and try them where nothing is
	$(BIN)/python -m pytest release --flops-report=

clean: ## Remove what the other commands made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
