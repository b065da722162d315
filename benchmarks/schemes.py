"""Compares the schemes of compress.py on the built-in digits: `python benchmarks/schemes.py > docs/results/schemes.md`.

Each takes the same trained YOLOv8n to the same share of its multiply-adds in equally many epochs, fine-tuning
included, with and without the original as a teacher. Interrupted, it goes on: about an hour on one CPU core.
"""

import argparse
import contextlib
import functools
import io

from digits_runs import ADAM, DATA, IMGSZ, dense, note

from ultralytics.pruning import Limits, Scoring, release
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.compression.recipe import Recipe, images_of
from ultralytics.pruning.compression.run import Compression
from ultralytics.pruning.compression.summary import steps_table
from ultralytics.pruning.data.sets import resolve_data
from ultralytics.pruning.files import places
from ultralytics.pruning.passes.images import gradients
from ultralytics.pruning.selection.targets import Target

SPEED_UP = 2.5
STEPS, EPOCHS_PER_STEP, EPOCHS = 3, 4, 8
VARIANTS = {
    "steered, taught": {"scheme": "steered", "teacher": True},
    "stepwise, taught": {"scheme": "stepwise", "teacher": True},
    "steered, alone": {"scheme": "steered"},
    "stepwise, alone": {"scheme": "stepwise"},
}


PAGE = """\
# Schemes of `compress.py`

Made by `python benchmarks/schemes.py {words}> docs/results/schemes.md` on one CPU core:
YOLOv8n, 45 epochs on the built-in digits at {imgsz} pixels, to {left:.0%} of its multiply-adds in {steps} steps
of {each} epochs (steered: as many in one training) and {last} epochs of fine-tuning. Accuracy is mAP50-95."""


def compressed(name: str) -> str:
    """Runs a variant; returns the table of its states."""
    training = {**{key: value for key, value in DATA.items() if key != "patience"}, **ADAM, "close_mosaic": 3}
    images = images_of(training, resolve_data("digits"))
    on_images = Scoring("group_taylor", gradients=functools.partial(gradients, images=images))
    recipe = Recipe(
        weights=str(dense()),
        sha256=checkpoint.sha256(dense()),
        images=images,
        target=Target("speed_up", SPEED_UP),
        steps=STEPS,
        epochs_per_step=EPOCHS_PER_STEP,
        epochs=EPOCHS,
        scoring=on_images if VARIANTS[name]["scheme"] == "stepwise" else Scoring(),
        limits=Limits(),
        training=training,
        **VARIANTS[name],
    )
    folder = places.RUNS / "schemes-benchmark" / name.replace(", ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    note(name)
    with release.quiet_release(), contextlib.redirect_stdout(io.StringIO()):
        compression = Compression(recipe, folder)
        compression.run()
    return steps_table(compression.steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="variants by their beginning; all by default")
    options = parser.parse_args()
    entry.choose_device("cpu")
    words = "".join(f'"{name}" ' for name in options.names)
    print(PAGE.format(words=words, imgsz=IMGSZ, left=1 / SPEED_UP, steps=STEPS, each=EPOCHS_PER_STEP, last=EPOCHS))
    for name in VARIANTS:
        if not options.names or name.startswith(tuple(options.names)):
            print(f"\n## {name}\n\n```\n{compressed(name)}\n```", flush=True)
