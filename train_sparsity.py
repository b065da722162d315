"""Stage 2: trains on so that unimportant channels fade: by a pull on the batch-norm scales (gamma), or to a target."""

import edited_release

with edited_release.required():
    from ultralytics.pruning import sparsity
    from ultralytics.pruning.command_line import entry, kinds, own_labels
    from ultralytics.pruning.command_line import options as shared
    from ultralytics.pruning.files import places
    from ultralytics.pruning.stages import sparsity as sparsity_stage
    from ultralytics.pruning.stages import training

STAGE = training.Stage(
    name=places.SPARSITY,
    settings={"lr0": 1e-3, "optimizer": "SGD"},
    next_scripts=("vis-bn-weight.py", "prune.py"),
    sparsity=True,
)

if __name__ == "__main__":
    options = training.training_parser(
        "Stage 2: trains on so that unimportant channels fade: by a pull on the batch-norm scales, or to a target.",
        "python train_sparsity.py --data digits --imgsz 160 --epochs 30 --batch 16 --sr 0.03 lr0=0.01",
        name=places.SPARSITY,
        weights="runs/train-norm/weights/best.pt",
        epochs=50,
    )
    add = options.add_argument
    add(
        "--sparsity",
        choices=list(sparsity.MODES),
        help=f"mode ({sparsity.DEFAULT_MODE} if empty; docs/sparsity-training.md says when to use which)",
    )
    add(
        "--sr",
        type=kinds.as_strength,
        help=f"strength ({sparsity_stage.default_strengths()})",
    )
    add(
        "--target-speed-up",
        type=kinds.as_factor_above_one,
        metavar="X",
        help="X times fewer multiply-adds, instead of --sr",
    )
    add(
        "--target-latency-speed-up",
        type=kinds.as_factor_above_one,
        metavar="X",
        help="X times fewer milliseconds, as timed, instead of --sr",
    )
    left = "parameters to leave, e.g. 1.2M, 900k, instead of --sr"
    add("--target-params", type=kinds.as_count, metavar="N", help=left)
    share = "share R of the prunable channels at zero, instead of --sr"
    add("--target-sparsity", type=kinds.as_part, metavar="R", help=share)
    own_labels.add_confidence(options)
    shared.add_latency(options, "target_latency_speed_up", at_the_end=False)
    entry.run(options, lambda chosen: training.train_stage(STAGE, chosen))
