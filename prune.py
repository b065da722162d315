"""Stage 3: cuts the faded channels out and writes the pruned network, its plan and its ONNX."""

import edited_release

with edited_release.required():
    from ultralytics.pruning.command_line import choice, entry, kinds, options, own_labels
    from ultralytics.pruning.files import places
    from ultralytics.pruning.stages import pruning

if __name__ == "__main__":
    parser = entry.Parser(
        "Stage 3: removes the least important channels; how it tells them depends on the checkpoint and on --data.",
        "python prune.py --weights yolov8n.yaml --prune-ratio 0.5 --dry-run",
        keys=pruning.KEYS,
    )
    add = parser.add_argument
    add(
        "--weights",
        type=kinds.as_network,
        default="runs/train-sparsity/weights/last.pt",
        help="checkpoint, or a model yaml",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--prune-ratio",
        "--percent",
        type=kinds.as_ratio,
        help=f"share of the prunable channels to remove (default after a sparsity training: {choice.DEFAULT_RATIO}; "
        f"of another network: --speed-up {choice.DEFAULT_SPEED_UP:g})",
    )
    options.add_sizes(target)
    target.add_argument("--zeros", action="store_true", default=None, help="remove what training left at exactly zero")
    target.add_argument(
        "--plan", type=kinds.as_source, metavar="FILE", help="repeat the cut of a pruned.json on its checkpoint"
    )
    some = "names or numbers, with commas: the rows of all other classes go first; alone, nothing else goes"
    add("--keep-classes", type=kinds.as_classes, metavar="CLASSES", help=some)
    decides = "by what the checkpoint is: slim after a sparsity training, else group_fisher"
    options.add_scoring(parser, decides, "16; as many as make 32 images for group_fisher")
    options.add_rounds(parser)
    options.add_limits(parser)
    options.add_latency(parser)
    folder = "folder for pruned.pt, pruned.json and pruned.onnx"
    add("--save-dir", type=kinds.as_product, default=places.ROOT / "weights", help=folder)
    data = "data set, for --val, for criteria that need images, for --recalibrate (default: that of the training); "
    add("--data", type=kinds.as_data_set, help=data + own_labels.FOLDERS)
    own_labels.add_confidence(parser)
    add("--val", action="store_true", help="measure the accuracy before and after on --data")
    add("--imgsz", type=kinds.as_side, help="side of the image for GFLOPs and ONNX; that of the training if empty")
    add("--cfg", type=kinds.as_network, help="model yaml; may be left out, the checkpoint knows")
    add("--model-size", choices=list("nsmlx"), help="model size; may be left out")
    add("--no-fold", dest="fold", action="store_false", help="drop what removed channels still emit")
    add("--no-onnx", dest="onnx", action="store_false", help="write no ONNX")
    add("--dry-run", action="store_true", help="show the plan and write nothing")
    entry.run(parser, pruning.prune_stage)
