"""Writes the timings that `--latency-table` reads, on the machine that a network is compressed for."""

import edited_release

with edited_release.required():
    from ultralytics.pruning import latency
    from ultralytics.pruning.command_line import entry, kinds
    from ultralytics.pruning.selection import limits
    from ultralytics.pruning.stages import latency_table

if __name__ == "__main__":
    options = entry.Parser(
        "Times each layer of a network at several widths, and the network whole, for prune.py --latency-table.",
        "python latency_table.py --weights yolov8n.yaml --imgsz 160 --output board.json",
        keys=frozenset(),
        device="cpu",
    )
    add = options.add_argument
    add("--weights", type=kinds.as_network, default="yolov8n.yaml", help="checkpoint, or a model yaml")
    add("--imgsz", type=kinds.as_side, default=640, help="side of the image in pixels")
    add("--runtime", choices=latency.RUNTIMES, default=latency.RUNTIMES[0], help="what runs the network")
    add("--threads", type=kinds.as_threads, metavar="N", help="of the CPU (default: all cores)")
    step = "the multiple that widths will be rounded to"
    add("--round-to", type=kinds.as_channels, metavar="N", default=limits.DEFAULT_ROUND_TO, help=step)
    add("--output", type=kinds.as_product, metavar="FILE", default="latency-table.json", help="the .json to write")
    entry.run(options, latency_table.write_table)
