"""Stage 4: trains the pruned network on, at the widths that the checkpoint holds."""

import edited_release

with edited_release.required():
    from ultralytics.pruning.command_line import entry, own_labels
    from ultralytics.pruning.files import places
    from ultralytics.pruning.stages import training

STAGE = training.Stage(
    name=places.FINETUNE,
    settings={"sr": 0.0, "finetune": True},
    next_scripts=("val.py", "export.py"),
)

if __name__ == "__main__":
    options = training.training_parser(
        "Stage 4: trains the pruned network on, at the widths that the checkpoint holds.",
        "python finetune.py --weights weights/pruned.pt --data digits --imgsz 160 --epochs 30 --batch 16",
        name=places.FINETUNE,
        weights="weights/pruned.pt",
        epochs=200,
    )
    options.add_argument(
        "--classes-from",
        choices=("network", "data"),
        help="data: take the classes of another data set; the rows of known names are kept, the others begin anew",
    )
    own_labels.add_confidence(options)
    entry.run(options, lambda chosen: training.train_stage(STAGE, chosen))
