"""Stage 2: trains on with an L1 pull on the batch-norm scales (gamma), so that unimportant channels fade."""

import sys

try:
    from ultralytics.pruning import stages, training
except ImportError as error:
    sys.exit(print(f"train_sparsity.py: error: {error} (run it in its repository)", file=sys.stderr) or 2)

STAGE = training.Stage(
    name=stages.SPARSITY,
    settings={"lr0": 1e-3, "optimizer": "SGD", "patience": 50},
    next_command="python vis-bn-weight.py, then python prune.py --weights {last}",
)

if __name__ == "__main__":
    options = training.training_parser(
        "Stage 2: trains on with an L1 pull on the batch-norm scales, so that unimportant channels fade.",
        "python train_sparsity.py --data digits --imgsz 160 --epochs 30 --batch 16 --sr 0.03 lr0=0.01",
        name=stages.SPARSITY,
        weights="runs/train-norm/weights/best.pt",
        epochs=50,
    )
    options.add_argument("--sr", type=float, default=1e-2, help="strength of the pull, decaying to a tenth of it")
    stages.run(options, lambda chosen: training.train(STAGE, chosen))
