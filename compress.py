"""All stages after the first in one command: from a trained checkpoint to a fine-tuned smaller one."""

import sys

try:
    from ultralytics.pruning import options, readers, stages
    from ultralytics.pruning.compression import SCHEMES
    from ultralytics.pruning.compression.command import compress_stage
except ImportError as error:
    sys.exit(print(f"compress.py: error: {error} (run it in its repository)", file=sys.stderr) or 2)

if __name__ == "__main__":
    parser = stages.Parser(
        "Compresses a trained network to a target and fine-tunes it. Stopped at any point, the same command goes on.",
        "python compress.py --data digits --imgsz 160 --batch 16 --speed-up 2 --epochs-per-step 5 --epochs 20",
    )
    add = parser.add_argument
    add("--weights", default="runs/train-norm/weights/best.pt", help="trained checkpoint")
    add("--data", default="coco.yaml", help="data set: a yaml, or 'digits', which is made on first use")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--speed-up", type=readers.factor, metavar="X", help="X times fewer multiply-adds, e.g. 2")
    target.add_argument(
        "--latency-speed-up", type=readers.factor, metavar="X", help="X times fewer milliseconds, as timed"
    )
    target.add_argument("--target-params", type=readers.count, metavar="N", help="parameters to leave, e.g. 1.2M, 900k")
    schemes = "; ".join(f"{name}: {about}" for name, about in SCHEMES.items())
    add("--scheme", choices=list(SCHEMES), help=f"{schemes} (without: steered for --speed-up, else stepwise)")
    add("--max-map-drop", type=readers.share, metavar="D", help="keep nothing that is more than D below the original")
    add("--steps", type=stages.positive, default=4, help="cuts of the stepwise scheme")
    add("--epochs-per-step", type=stages.positive, default=10, help="epochs after each; steered: steps x these in one")
    add("--epochs", type=stages.positive, default=100, help="epochs of the fine-tuning at the end")
    add("--batch", type=stages.positive, default=48, help="images per step")
    add("--imgsz", type=stages.positive, default=640, help="side of the training images in pixels")
    add("--no-distill", dest="teacher", action="store_false", help="train without the original as a teacher")
    add("--name", default="compress", help="run folder under runs/")
    add("--overwrite", action="store_true", help="replace the run of that name")
    options.add_scoring(parser)
    options.add_limits(parser)
    options.add_latency(parser)
    stages.run(parser, compress_stage)
