"""Writes the timings that `--latency-table` reads, on the machine that a network is compressed for."""

import sys

try:
    from ultralytics.pruning import latency
    from ultralytics.pruning.command_line import entry, kinds
    from ultralytics.pruning.selection import limits
    from ultralytics.pruning.stages import latency_table
except ImportError as error:
    sys.exit(print(f"latency_table.py: error: {error} (run it in its repository)", file=sys.stderr) or 2)

if __name__ == "__main__":
    options = entry.Parser(
        "Times each layer of a network at several widths, and the network whole, for prune.py --latency-table.",
        "python latency_table.py --weights yolov8n.yaml --imgsz 160 --output board.json",
        keys=frozenset(),
        device="cpu",
    )
    add = options.add_argument
    add("--weights", type=kinds.network, default="yolov8n.yaml", help="checkpoint, or a model yaml")
    add("--imgsz", type=kinds.side, default=640, help="side of the image in pixels")
    add("--runtime", choices=latency.RUNTIMES, default=latency.RUNTIMES[0], help="what runs the network")
    add("--threads", type=kinds.threads, metavar="N", help="of the CPU (default: all cores)")
    step = "the multiple that widths will be rounded to"
    add("--round-to", type=kinds.channels, metavar="N", default=limits.DEFAULT_ROUND_TO, help=step)
    add("--output", type=kinds.product, metavar="FILE", default="latency-table.json", help="the .json to write")
    entry.run(options, latency_table.write_table)
