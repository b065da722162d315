"""Stage 3: cuts the faded channels out and writes the pruned network, its plan and its ONNX."""

import argparse
import sys

try:
    from ultralytics.pruning import cutting, stages
except ImportError as error:
    sys.exit(print(f"prune.py: error: {error} (run it in its repository)", file=sys.stderr) or 2)


def ratio(text: str) -> float:
    """Reads a pruning ratio."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 0 and below 1")
    return value


if __name__ == "__main__":
    options = stages.Parser(
        "Stage 3: removes the channels with the smallest batch-norm scales, by one threshold over the whole network.",
        "python prune.py --weights yolov8n.yaml --prune-ratio 0.5 --dry-run",
    )
    options.add_argument("--weights", default="runs/train-sparsity/weights/last.pt", help="checkpoint, or a model yaml")
    options.add_argument("--prune-ratio", "--percent", type=ratio, default=0.7, help="share of the prunable channels")
    options.add_argument(
        "--save-dir", default=stages.ROOT / "weights", help="folder for pruned.pt, pruned.json and pruned.onnx"
    )
    options.add_argument("--data", default="coco.yaml", help="data set for --val")
    options.add_argument("--val", action="store_true", help="measure the accuracy before and after on --data")
    options.add_argument(
        "--imgsz", type=stages.positive, help="side of the image for GFLOPs and ONNX; that of the training if empty"
    )
    options.add_argument("--cfg", help="model yaml; may be left out, the checkpoint knows")
    options.add_argument("--model-size", choices=list("nsmlx"), help="model size; may be left out")
    options.add_argument("--no-fold", dest="fold", action="store_false", help="drop what removed channels still emit")
    options.add_argument("--no-onnx", dest="onnx", action="store_false", help="write no ONNX")
    options.add_argument("--dry-run", action="store_true", help="show the plan and write nothing")
    stages.run(options, cutting.prune_stage)
