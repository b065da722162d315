"""Exports a checkpoint for deployment, ONNX by default, and checks that it finds what the checkpoint finds."""

import edited_release

with edited_release.required():
    from ultralytics.pruning.command_line import entry, kinds, own_labels, settings
    from ultralytics.pruning.quantization import int8, stage

if __name__ == "__main__":
    options = entry.Parser(
        "Exports a checkpoint to a format of Ultralytics; what runs here is compared with it on real images.",
        "python export.py --weights runs/finetune/weights/best.pt --data digits --imgsz 160",
        keys=settings.EXPORT,
    )
    add = options.add_argument
    add("--weights", type=kinds.as_source, default="runs/finetune/weights/best.pt", help="checkpoint to export")
    add("--format", type=kinds.as_word, default="onnx", help="onnx, torchscript, openvino, engine, ...")
    add(
        "--imgsz",
        type=kinds.as_sides,
        help="side of the images in pixels, or height,width; that of the training if empty",
    )
    data = f"data set to compare on, a yaml or 'digits', {own_labels.FOLDERS}; that of the training if left out"
    add("--data", type=kinds.as_data_set, help=data)
    add("--images", type=kinds.as_positive, default=16, help="how many of its val images to compare on")
    own_labels.add_confidence(options)
    add("--int8", action="store_true", help="an ONNX in integers instead, if that is faster and as accurate")
    add("--fastest", action="store_true", help="whatever is the fastest here, of all formats, as accurate")
    drop = "accuracy that --int8 or --fastest may cost, in 0..1"
    add("--max-map-drop", type=kinds.as_share, metavar="D", default=int8.DEFAULT_DROP, help=drop)
    add("--threads", type=kinds.as_threads, metavar="N", help="of the CPU, by which these are timed (default: all)")
    add("--force", action="store_true", help="write what --int8 made, even if it is slower or less accurate")
    add("--netron", action="store_true", help="show the ONNX in Netron, in a browser on this machine")
    entry.run(options, stage.export_stage)
