VENV   := .venv
PYTHON := $(VENV)/bin/python

.PHONY: install demo test lint clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.txt requirements-dev.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement requirements-dev.txt
	touch $@

demo: install  ## all stages on the built-in digits, on the CPU in less than 20 minutes
	$(PYTHON) demo.py

test: install
	$(PYTHON) -m pytest

lint: install
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

clean:
	rm -rf $(VENV) runs datasets .ultralytics .pytest_cache .mypy_cache .ruff_cache .hypothesis
