"""Shows the batch-norm scales (gamma) of one checkpoint, or of two for comparison, to pick the pruning ratio by."""

import argparse
from pathlib import Path

import edited_release

with edited_release.required():
    from ultralytics.pruning import PruningError, plots, report
    from ultralytics.pruning.checkpoints import checkpoint
    from ultralytics.pruning.command_line import entry, kinds
    from ultralytics.pruning.files import places
    from ultralytics.pruning.selection import ratios

BEFORE = places.RUNS / places.NORMAL / "weights" / "best.pt"
AFTER = places.RUNS / places.SPARSITY / "weights" / "last.pt"


def checkpoints_named(words: list[str]) -> list[Path]:
    """Returns the checkpoints to look at; raises a PruningError if one is not there, or there are too many or none."""
    paths = [Path(word) for word in words] or [path for path in (BEFORE, AFTER) if path.is_file()]
    if not paths:
        names = f"{places.shown(BEFORE)} nor {places.shown(AFTER)}"
        raise PruningError(f"neither {names} is there; run train-normal.py, or name a checkpoint")
    if len(paths) > 2:
        raise PruningError(f"{len(paths)} checkpoints; name one, or two to compare")
    if missing := [places.shown(path) for path in paths if not path.is_file()]:
        raise PruningError(f"'{missing[0]}' is not there; name a checkpoint that a stage wrote")
    return paths


def look(options: argparse.Namespace) -> None:
    """Prints the table and writes the picture; raises a PruningError if it cannot, nothing is written then."""
    paths, save = checkpoints_named(options.checkpoints), Path(options.save)
    if save.suffix != ".png":
        raise PruningError(f"--save {places.shown(save)}: the picture is a .png, so the name must end with that")
    if save.is_dir():
        raise PruningError(f"--save {places.shown(save)} is a folder; name a file")
    networks = [plots.network_gammas(path, places.shown(path.resolve())) for path in paths]
    places.write_folder(save.parent)
    with checkpoint.whole_file(save) as temporary:
        plots.overview_figure(networks).savefig(temporary)
    report.say(plots.gamma_table(networks))
    for network in networks:
        report.say(f"\n{ratios.ratio_table(network.title, network.cuts)}")
    report.say(f"\nWrote {places.shown(save.resolve())}")


if __name__ == "__main__":
    parser = entry.Parser(
        "Shows the batch-norm scales (gamma) of one checkpoint, or of two, to pick the pruning ratio by.",
        "python vis-bn-weight.py before.pt after.pt --save bn.png",
        keys=frozenset(),
        device=None,
    )
    files = "one or two .pt; those of stages 1 and 2 by default"
    parser.add_argument("checkpoints", nargs="*", type=kinds.as_source, help=files)
    picture = places.RUNS / "bn-weights.png"
    parser.add_argument("--save", type=kinds.as_product, default=picture, help="the .png to write")
    entry.run(parser, look)
