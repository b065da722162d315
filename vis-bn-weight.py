"""Shows the batch-norm scales (gamma) of one checkpoint, or of two for comparison, to pick the pruning ratio by."""

import argparse
import sys
from pathlib import Path

try:
    from ultralytics.pruning import PruningError, checkpoint, plots, ratios, readers, stages
except ImportError as error:
    sys.exit(print(f"vis-bn-weight.py: error: {error} (run it in its repository)", file=sys.stderr) or 2)

BEFORE = stages.RUNS / stages.NORMAL / "weights" / "best.pt"
AFTER = stages.RUNS / stages.SPARSITY / "weights" / "last.pt"


def look(options: argparse.Namespace) -> None:
    """Prints the table and writes the picture.

    Raises:
        PruningError: If there is nothing to look at, or nowhere to put it; nothing is written then.
    """
    paths = [Path(name) for name in options.checkpoints] or [path for path in (BEFORE, AFTER) if path.is_file()]
    if not paths:
        names = f"{stages.shown(BEFORE)} nor {stages.shown(AFTER)}"
        raise PruningError(f"neither {names} is there; run train-normal.py, or name a checkpoint")
    if len(paths) > 2:
        raise PruningError(f"{len(paths)} checkpoints; name one, or two to compare")
    if missing := [stages.shown(path) for path in paths if not path.is_file()]:
        raise PruningError(f"'{missing[0]}' is not there; name a checkpoint that a stage wrote")
    save = Path(options.save)
    if save.suffix != ".png":
        raise PruningError(f"--save {stages.shown(save)}: the picture is a .png, so the name must end with that")
    if save.is_dir():
        raise PruningError(f"--save {stages.shown(save)} is a folder; name a file")
    networks = [plots.network_gammas(path, stages.shown(path.resolve())) for path in paths]
    stages.write_folder(save.parent)
    with checkpoint.whole_file(save) as temporary:
        plots.overview_figure(networks).savefig(temporary)
    stages.say(plots.gamma_table(networks))
    for network in networks:
        stages.say(f"\n{ratios.ratio_table(network.title, network.cuts)}")
    stages.say(f"\nWrote {stages.shown(save.resolve())}")


if __name__ == "__main__":
    parser = stages.Parser(
        "Shows the batch-norm scales (gamma) of one checkpoint, or of two, to pick the pruning ratio by.",
        "python vis-bn-weight.py before.pt after.pt --save bn.png",
        keys=frozenset(),
        device=None,
    )
    files = "one or two .pt; those of stages 1 and 2 by default"
    parser.add_argument("checkpoints", nargs="*", type=readers.source, help=files)
    save = "the .png to write"
    parser.add_argument("--save", type=readers.product, default=stages.RUNS / "bn-weights.png", help=save)
    stages.run(parser, look)
