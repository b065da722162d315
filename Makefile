VENV   := .venv
PYTHON := $(VENV)/bin/python

.PHONY: install demo zoo test lint clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.txt requirements-dev.txt requirements-checkpoints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement requirements-dev.txt
	$(PYTHON) -m pip install --quiet --no-deps --requirement requirements-checkpoints.txt
	touch $@

# The built-in images are small and few, so: small steps with no gradient accumulation (nbs), digits are not mirrored
# (fliplr), and widths are not rounded (round_to=1), since most layers of so small a network end below 16 channels.
DIGITS := --data digits --imgsz 160 --batch 16 --device cpu --overwrite nbs=16 fliplr=0 mosaic=0.5
NORMAL := runs/train-norm/weights/best.pt
SPARSE := runs/train-sparsity/weights/last.pt
TUNED  := runs/finetune/weights/best.pt

demo: install  ## all stages on the built-in digits, on the CPU
	$(PYTHON) train-normal.py --weights yolov8n.yaml --epochs 30 $(DIGITS) optimizer=AdamW lr0=0.001 close_mosaic=10
	$(PYTHON) train_sparsity.py --epochs 16 --sparsity steered --target-speed-up 2.5 $(DIGITS) round_to=1 optimizer=AdamW lr0=0.001 close_mosaic=5
	$(PYTHON) vis-bn-weight.py
	$(PYTHON) prune.py
	$(PYTHON) finetune.py --epochs 12 $(DIGITS) optimizer=AdamW lr0=0.001 close_mosaic=6
	$(PYTHON) export.py --data digits --imgsz 160
	$(PYTHON) val.py $(NORMAL) $(SPARSE) weights/pruned.pt $(TUNED) --data digits --imgsz 160 --device cpu --overwrite
	$(PYTHON) report.py runs/val -o runs/report.html
	@echo "Epochs: normal 30, sparse 16 more, pruned none, fine-tuned 12 more."
	@echo "Report: runs/report.html (open it in a browser)"
	@echo "Pictures: runs/train-sparsity/gamma.png, runs/bn-weights.png, runs/*/results.png, runs/val/*/BoxPR_curve.png"
	@echo "Files: weights/pruned.pt, .json, .onnx; fine-tuned: $(TUNED) and its .onnx (open one in netron.app)"

zoo: install  ## every model file of the release, and Torch-Pruning beside it: more than an hour
	$(PYTHON) benchmarks/zoo.py

test: install
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports --no-logo

clean:
	rm -rf $(VENV) runs datasets .ultralytics .pytest_cache .mypy_cache .ruff_cache .hypothesis
