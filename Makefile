VENV   := .venv
PYTHON := $(VENV)/bin/python

.PHONY: install demo test lint clean

$(VENV)/.installed: requirements.txt requirements-dev.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement requirements-dev.txt
	touch $@
