"""Stage 1: trains a network as usual (no pull on the batch-norm scales)."""

import edited_release

with edited_release.required():
    from ultralytics.pruning.command_line import entry
    from ultralytics.pruning.files import places
    from ultralytics.pruning.stages import training

STAGE = training.Stage(
    name=places.NORMAL,
    settings={"sr": 0.0},
    next_scripts=("train_sparsity.py",),
    keeps_network=False,
    from_yaml=True,
)

if __name__ == "__main__":
    options = training.training_parser(
        "Stage 1: trains a network as usual, from pretrained weights or a model yaml.",
        "python train-normal.py --weights yolov8n.yaml --data digits --imgsz 160 --epochs 40 --batch 16",
        name=places.NORMAL,
        weights="weights/yolov8s.pt",
        epochs=200,
        from_yaml=True,
    )
    entry.run(options, lambda chosen: training.train_stage(STAGE, chosen))
