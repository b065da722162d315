"""Writes the timings that `--latency-table` reads, on the machine that a network is compressed for."""

import sys

try:
    from ultralytics.pruning import latency, latency_stage, limits, readers, stages
except ImportError as error:
    sys.exit(print(f"latency_table.py: error: {error} (run it in its repository)", file=sys.stderr) or 2)

if __name__ == "__main__":
    options = stages.Parser(
        "Times each layer of a network at several widths, and the network whole, for prune.py --latency-table.",
        "python latency_table.py --weights yolov8n.yaml --imgsz 160 --output board.json",
        keys=frozenset(),
        device="cpu",
    )
    add = options.add_argument
    add("--weights", type=readers.network, default="yolov8n.yaml", help="checkpoint, or a model yaml")
    add("--imgsz", type=readers.side, default=640, help="side of the image in pixels")
    add("--runtime", choices=latency.RUNTIMES, default=latency.RUNTIMES[0], help="what runs the network")
    add("--threads", type=readers.threads, metavar="N", help="of the CPU (without: all cores)")
    step = "the multiple that widths will be rounded to"
    add("--round-to", type=readers.channels, metavar="N", default=limits.DEFAULT_ROUND_TO, help=step)
    add("--output", type=readers.product, metavar="FILE", default="latency-table.json", help="the .json to write")
    stages.run(options, latency_stage.write_table)
