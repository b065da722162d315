VENV   := .venv
PYTHON := $(VENV)/bin/python

.PHONY: install quick quick-announced demo-announced demo zoo test compat docs lint clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.txt requirements-dev.txt requirements-checkpoints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement requirements-dev.txt
	$(PYTHON) -m pip install --quiet --no-deps --requirement requirements-checkpoints.txt
	touch $@

# The built-in images are small and few, so: small steps with no gradient accumulation (nbs), digits are not mirrored
# (fliplr), and widths are not rounded (round_to=1), since most layers of so small a network end below 16 channels.
DIGITS := --data digits --imgsz 160 --batch 16 --device cpu --overwrite nbs=16 fliplr=0 mosaic=0.5
# Runs and files have names of their own: those of the stages' defaults are a user's.
NORMAL := runs/demo/weights/best.pt
SPARSE := runs/demo-sparsity/weights/last.pt
PRUNED := runs/demo-pruned/pruned.pt
TUNED  := runs/demo-tuned/weights/best.pt

# A look at it: a network that has hardly been trained, cut to half and trained on for two epochs.
QUICK := --data digits --imgsz 160 --batch 16 --device cpu --overwrite nbs=16 fliplr=0 plots=False

quick-announced:
	@echo "A YOLOv8n is trained for three epochs on the built-in digits, cut to half of its multiply-adds, fine-tuned for two"
	@echo "epochs, exported to ONNX and compared. About four minutes on two cores, after an installation of a few."

quick: quick-announced install  ## prunes, checks, fine-tunes two epochs and exports, in five minutes on two cores
	$(PYTHON) train-normal.py --weights yolov8n.yaml --epochs 3 --name quick $(QUICK) optimizer=AdamW lr0=0.001
	$(PYTHON) prune.py --weights runs/quick/weights/best.pt --data digits --speed-up 2 --round-to 8 --save-dir runs/quick/pruned --val
	$(PYTHON) finetune.py --weights runs/quick/pruned/pruned.pt --epochs 2 --name quick-tuned $(QUICK)
	$(PYTHON) export.py --weights runs/quick-tuned/weights/best.pt --data digits --imgsz 160
	$(PYTHON) val.py runs/quick/weights/best.pt runs/quick-tuned/weights/best.pt runs/quick-tuned/weights/best.onnx --data digits --imgsz 160 --device cpu --name quick-val --overwrite

demo-announced:
	@echo "All stages on the built-in digits, on the CPU, in 20 to 30 minutes on two cores, after an installation of a few:"
	@echo "training, sparsity training, pruning, fine-tuning, export, measuring, and a report, runs/demo.html."

demo: demo-announced install  ## all stages on the built-in digits, on the CPU
	$(PYTHON) train-normal.py --weights yolov8n.yaml --epochs 30 --name demo $(DIGITS) optimizer=AdamW lr0=0.001 close_mosaic=10
	$(PYTHON) train_sparsity.py --weights $(NORMAL) --epochs 16 --name demo-sparsity --sparsity steered --target-speed-up 2.5 $(DIGITS) round_to=1 optimizer=AdamW lr0=0.001 close_mosaic=5
	$(PYTHON) vis-bn-weight.py $(NORMAL) $(SPARSE) --save runs/demo-sparsity/bn-weights.png
	$(PYTHON) prune.py --weights $(SPARSE) --save-dir runs/demo-pruned
	$(PYTHON) finetune.py --weights $(PRUNED) --epochs 12 --name demo-tuned $(DIGITS) optimizer=AdamW lr0=0.001 close_mosaic=6
	$(PYTHON) export.py --weights $(TUNED) --data digits --imgsz 160
	$(PYTHON) val.py $(NORMAL) $(SPARSE) $(PRUNED) $(TUNED) --data digits --imgsz 160 --device cpu --name demo-val --overwrite
	$(PYTHON) report.py runs/demo-val -o runs/demo.html
	@echo "Epochs: normal 30, sparse 16 more, pruned none, fine-tuned 12 more."
	@echo "Report: runs/demo.html (open it in a browser)"
	@echo "Pictures: runs/demo-sparsity/gamma.png, bn-weights.png beside it, runs/demo*/results.png, runs/demo-val/*/BoxPR_curve.png"
	@echo "Files: $(PRUNED), .json, .onnx; fine-tuned: $(TUNED) and its .onnx (open one in netron.app)"

zoo: install  ## every model file of the release, and Torch-Pruning beside it: more than an hour
	$(PYTHON) benchmarks/zoo.py

test: install
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Another release of Ultralytics, in a virtual environment of its own: the suite tells what holds. See docs/overlay.md.
COMPAT := .venv-compat

compat:  ## make compat RELEASE=8.4.189
	@test -n "$(RELEASE)" || { echo "Which release? make compat RELEASE=8.4.189"; exit 2; }
	python3 -m venv $(COMPAT)
	sed 's/^\(ultralytics-opencv-headless\)==.*/\1==$(RELEASE)/' requirements.txt > $(COMPAT)/requirements.txt
	sed 's/^-r requirements.txt//' requirements-dev.txt >> $(COMPAT)/requirements.txt
	$(COMPAT)/bin/python -m pip install --quiet --requirement $(COMPAT)/requirements.txt
	$(COMPAT)/bin/python -m pip install --quiet --no-deps --requirement requirements-checkpoints.txt
	YOLO_PRUNING_ANY_RELEASE=1 $(COMPAT)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -q

docs: install  ## the site, in site/
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict
	@echo "Open site/index.html."

lint: install
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports --no-logo

clean:  ## what was installed and built; runs/, datasets/ and weights/ stay, they are yours
	rm -rf $(VENV) $(COMPAT) site .ultralytics .pytest_cache .mypy_cache .ruff_cache .hypothesis
