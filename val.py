"""Measures checkpoints and exported files on one data set: size, cost, accuracy and speed, side by side."""

import edited_release

with edited_release.required():
    from ultralytics.pruning.command_line import entry, kinds
    from ultralytics.pruning.stages import measuring

if __name__ == "__main__":
    options = measuring.CheckpointParser(
        "Measures checkpoints and exported files on one data set, timed in turns: a table, val.csv, val.json, curves.",
        "python val.py runs/train-norm/weights/best.pt weights/pruned.pt --data digits --imgsz 160",
    )
    add = options.add_argument
    data = "data set: a yaml, or 'digits', which is made on first use; that of the first .pt's training if empty"
    add("--data", type=kinds.as_data_set, help=data)
    add("--imgsz", type=kinds.as_side, help="side of the images in pixels; that of the first .pt's training if empty")
    add("--batch", type=kinds.as_positive, default=16, help="images at once; if given, they are timed so, too")
    add("--threads", type=kinds.as_threads, metavar="N", help="of the CPU, while they are timed (default: all cores)")
    add("--no-timing", dest="timing", action="store_false", help="measure the accuracy only")
    add("--video", type=kinds.as_source, metavar="FILE", help="time them on the first frames of this video, too")
    add("--per-class", action="store_true", help="print the AP of each class")
    add("--name", type=kinds.as_run_name, default="val", help="folder for the results under runs/")
    add("--overwrite", action="store_true", help="replace the results of that name")
    entry.run(options, measuring.measure_stage)
