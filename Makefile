PY ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
RUN = $(VENV)/bin/python

.PHONY: quickstart test long faults lint types bench clean

$(VENV)/.core: pyproject.toml constraints.txt
	$(PY) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt -e '.[train,data]'
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	touch $@

quickstart: $(VENV)/.core        ## train a small network on the toy world, paint, and say which picture to open
	$(VENV)/bin/photogram quickstart

test: $(VENV)/.dev               ## every test but the long ones
	$(RUN) -m pytest -q -n 2 -m "not faults and not long"

long: $(VENV)/.dev               ## what was left out of them, but for faults: plans of every recipe against the truth
	$(RUN) -m pytest -q -n 2 -m long --timeout 1200

faults: $(VENV)/.dev             ## kill trainings at 50 random moments; nothing may be lost or differ
	$(RUN) -m pytest -q -m faults --timeout 3600 -s

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.dev
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

bench: $(VENV)/.dev
	$(RUN) benchmarks/loading.py
	$(RUN) benchmarks/evaluation.py
	$(RUN) benchmarks/layout_conv.py
	$(RUN) benchmarks/regions.py
	$(RUN) benchmarks/startup.py
	$(RUN) benchmarks/speed.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
