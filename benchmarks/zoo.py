"""Prunes every model file of the release, and lets Torch-Pruning try the same: `python benchmarks/zoo.py`.

Each file at its smallest scale, and the largest scale of each family, with random weights and batch norm statistics, at
a pruning ratio of 0.5. Writes docs/results/zoo.json and, from it, zoo.md; what is not measured anew stays in both.
"""

import argparse
import copy
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import torch
from zoo_models import ZooModel, randomise, zoo
from zoo_report import render

from ultralytics.pruning import CRITERIA, cut, make_plan, trace
from ultralytics.pruning.checkpoints.checkpoint import whole_file
from ultralytics.pruning.files.places import ROOT
from ultralytics.pruning.report import say
from ultralytics.pruning.surgery.verification import largest_difference, silenced

DATA, TABLE = ROOT / "docs" / "results" / "zoo.json", ROOT / "docs" / "results" / "zoo.md"
CHILD = Path(__file__).with_name("zoo_torch_pruning.py")
RATIO = 0.5
REPEATS = 3
THREADS = 2
LIMIT = 60  # seconds that Torch-Pruning gets for one file


def measure(entry: ZooModel) -> dict[str, Any]:
    """Prunes one file: parameters, share of free channels, seconds of the fastest run, largest difference."""
    model = entry.build()
    randomise(model)
    runs = []
    try:
        for _ in range(REPEATS):
            pruned = copy.deepcopy(model)
            marks = [time.perf_counter()]
            channel_map = trace(model)
            marks.append(time.perf_counter())
            plan = make_plan(channel_map, CRITERIA["slim"](channel_map, model), prune_ratio=RATIO)
            marks.append(time.perf_counter())
            cut(pruned, plan)
            marks.append(time.perf_counter())
            runs.append([later - earlier for earlier, later in itertools.pairwise(marks)])
        found = {
            "params": plan.before.params,
            "pruned_params": sum(parameter.numel() for parameter in pruned.parameters()),
            "planned_params": plan.after.params,
            "free": channel_map.free_share,
            "pinned": channel_map.pinned_channels(),
            "seconds": dict(zip(("trace", "select", "cut"), min(runs, key=sum), strict=True)),
        }
        side = max(32, int(max(model.stride)))
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(2, model.yaml.get("channels", 3), 3 * side, 5 * side, generator=generator).double()
        return {**found, "difference": largest_difference(silenced(model, plan).double(), pruned.double(), image)}
    except Exception as error:  # one file that fails is a row of the table, not the end of it
        line = str(error).splitlines()[0] if str(error) else ""
        return {"params": sum(p.numel() for p in model.parameters()), "error": f"{type(error).__name__}: {line}"}


def measure_torch_pruning(entry: ZooModel, *, replace_c2f: bool) -> dict[str, Any]:
    """Prunes one file with Torch-Pruning, in a process of its own that is ended after `LIMIT` seconds."""
    words = [sys.executable, str(CHILD), entry.name, "--threads", str(THREADS)]
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(ROOT / ".ultralytics"), "YOLO_AUTOINSTALL": "0"}
    process = subprocess.Popen(
        words + ["--replace-c2f"] * replace_c2f,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()  # type: ignore[union-attr]  # a pipe, as asked for
        if line == "ready\n":  # the limit is for pruning alone: not for starting Python and building the network
            line, _ = process.communicate(timeout=LIMIT)
        return json.loads(line)
    except subprocess.TimeoutExpired:
        return {"result": "no answer", "seconds": LIMIT}
    except json.JSONDecodeError:
        return {"result": "crash", "seconds": 0.0}
    finally:
        process.kill()
        process.communicate()


def described(result: dict[str, Any]) -> str:
    """What became of one file, for the line of progress."""
    if isinstance(result.get("seconds"), dict):
        return f"cut in {sum(result['seconds'].values()):.2f} s, difference {result['difference']:.1e}"
    if "error" in result:
        return result["error"]
    return f"{result['result']} in {result['seconds']:.2f} s" if "seconds" in result else result["result"]


def machine() -> dict[str, str]:
    """What a run was made with."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    packages = {"torch": torch.__version__, "ultralytics": version("ultralytics-opencv-headless")}
    return {
        "machine": f"{(names or [platform.machine()])[0]}, {os.cpu_count()} cores",
        "threads": str(THREADS),
        "versions": ", ".join(f"{name} {number}" for name, number in packages.items()),
        "date": date.today().isoformat(),
    }


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.is_file() else []


def write(data: dict[str, Any]) -> None:
    """Writes the figures and the page that is made from them."""
    DATA.parent.mkdir(exist_ok=True)
    for path, text in ((DATA, json.dumps(data, indent=1) + "\n"), (TABLE, render(data))):
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def main(names: list[str], only_ours: bool) -> None:
    """Measures the named files, or all, and writes the page after each."""
    data = json.loads(DATA.read_text(encoding="utf-8")) if DATA.is_file() else {"runs": {}, "models": {}}
    listed = zoo()
    entries = [entry for entry in listed if not names or entry.name in names]
    unknown = sorted(set(names) - {entry.name for entry in listed})
    if unknown:
        sys.exit(print(f"zoo.py: error: no such model: {', '.join(unknown)}", file=sys.stderr) or 2)
    torch.set_num_threads(THREADS)
    for number, entry in enumerate(entries, 1):
        row = data["models"].get(entry.name, {})
        row |= {"task": entry.task, "file": entry.file, "reads_text": entry.reads_text, "ours": measure(entry)}
        text = f"[{number}/{len(entries)}] {entry.name}: {described(row['ours'])}"
        data["runs"]["ours"] = machine()
        if not only_ours:
            for key, replace in (("torch_pruning", False), ("torch_pruning_split", True)):
                row[key] = measure_torch_pruning(entry, replace_c2f=replace)
                text += f"; Torch-Pruning{' with C2f replaced' * replace}: {described(row[key])}"
            data["runs"]["torch_pruning"] = machine() | {"torch_pruning": version("torch-pruning")}
        data["models"][entry.name] = row
        data["models"] = {known.name: data["models"][known.name] for known in listed if known.name in data["models"]}
        write(data)
        say(text)
    say(f"Written: {DATA.relative_to(ROOT)}, {TABLE.relative_to(ROOT)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names with the scale, e.g. yolov8n-seg; all by default")
    parser.add_argument("--only-ours", action="store_true", help="leave Torch-Pruning's figures as they are")
    options = parser.parse_args()
    main(options.models, options.only_ours)
