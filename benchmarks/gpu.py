"""Runs every stage on the GPU and checks what only a GPU can show.

    python benchmarks/gpu.py --output docs/results/gpu.md

All stages on the built-in digits with AMP, each mode of sparsity training and what its step costs, the cut on the GPU
against the silenced original and against the CPU's cut, latency tables against whole networks, and two GPUs where there
are two. One check that fails hides no other; the exit code is 1 if any did. Runs go to `runs/gpu-*`, files to
`runs/gpu/`. About half an hour on one GPU. `--cpu --tiny` shows in a minute or two that the command itself works.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import torch

from benchmarks import gpu_engine, gpu_stages
from benchmarks.gpu_scale import Scale
from ultralytics.pruning.errors import PruningError
from ultralytics.pruning.report import say, table

PAGE = """\
# On a GPU

Made by `python benchmarks/gpu.py{words} --output docs/results/gpu.md` on {machine}, PyTorch {torch}.

| check | result | seconds |
|---|---|---:|
{rows}
"""


def main(words: Sequence[str] | None = None) -> int:
    """Runs the checks; returns the exit code: 0, 1 if a check failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="0", help="number of the GPU")
    parser.add_argument("--cpu", action="store_true", help="run on the CPU instead")
    parser.add_argument("--tiny", action="store_true", help="a small network, few images and fewer modes")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[], help="checks with one of these in their name")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table as markdown, too")
    options = parser.parse_args(words)
    if not options.cpu and not (options.device.isdigit() and int(options.device) < torch.cuda.device_count()):
        print(
            f"gpu.py: error: there is no CUDA device {options.device} on this machine; --cpu --tiny tries the command "
            f"without one",
            file=sys.stderr,
        )
        return 2
    scale = Scale.of("cpu" if options.cpu else options.device, tiny=options.tiny)
    rows, failed = [], []
    for name, check in checks(scale).items():
        if options.only and not any(word in name for word in options.only):
            continue
        say(f"--- {name}")
        result, passed, seconds = outcome(check)
        rows.append((name, result, f"{seconds:.1f}"))
        failed += [] if passed else [name]
    say("\n" + table(("check", "result", "seconds"), rows))
    if options.output:
        chosen = "".join(f" {word}" for word in ("--cpu", "--tiny") if getattr(options, word[2:]))
        lines = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
        page = PAGE.format(words=chosen, machine=scale.machine(), torch=torch.__version__, rows=lines)
        options.output.write_text(page, encoding="utf-8")
    say(f"\n{len(failed)} of {len(rows)} checks failed" + (f": {', '.join(failed)}" if failed else ""))
    return 1 if failed or not rows else 0


def checks(scale: Scale) -> dict[str, Callable[[], str]]:
    """Returns the checks by name, in the order in which they need each other's files."""
    return {**gpu_engine.checks(scale), **gpu_stages.checks(scale)}


def outcome(check: Callable[[], str]) -> tuple[str, bool, float]:
    """Runs one check; returns what it says, whether it passed, and its seconds."""
    start = time.perf_counter()
    try:
        return check(), True, time.perf_counter() - start
    except Exception as error:  # whatever fails is this check's result: the others run as well
        if not isinstance(error, PruningError):
            traceback.print_exc()
        lines = str(error).strip().splitlines() or ["no message"]
        return f"FAILED: {type(error).__name__}: {lines[0]}", False, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
