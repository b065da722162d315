"""Measures checkpoints on one data set: size, cost, accuracy and speed, side by side."""

import sys

try:
    from ultralytics.pruning import measuring, readers, stages
except ImportError as error:
    sys.exit(print(f"val.py: error: {error} (run it in its repository)", file=sys.stderr) or 2)

if __name__ == "__main__":
    options = measuring.Parser(
        "Measures one or more checkpoints, .pt or .onnx, on one data set: a table, val.csv, and the curves of each.",
        "python val.py runs/train-norm/weights/best.pt weights/pruned.pt --data digits --imgsz 160",
    )
    add = options.add_argument
    data = "data set: a yaml, or 'digits', which is made on first use"
    add("--data", type=readers.data_set, default="coco.yaml", help=data)
    add("--imgsz", type=readers.side, default=640, help="side of the images in pixels")
    add("--batch", type=readers.positive, default=16, help="images at once, where the checkpoint leaves the choice")
    add("--name", type=readers.run_name, default="val", help="folder for the results under runs/")
    add("--overwrite", action="store_true", help="replace the results of that name")
    stages.run(options, measuring.measure)
