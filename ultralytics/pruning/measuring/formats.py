"""Files that are measured: found, told by their format, and described before anything is measured."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import packages, trust
from ..checkpoints import checkpoint
from ..cost import cost_of
from ..deploy.metadata import Exported, described
from ..deploy.onnx_files import read_onnx, try_out
from ..errors import PruningError, hint, typed_line
from ..files import places
from ..latency.files import arithmetic_of, half, open_file, run_of
from ..networks.keeping import known_names
from ..passes.isolation import isolated
from ..tracing.trace import trace
from .rows import Measurement

ONE_CLASS = {0: "item"}  # names of a network that the release trained with single_cls
ON_GPUS = ("pt", "torchscript", "onnx", "engine", "paddle")  # all others run where they want, here on the CPU
PROGRAMS = ("torchscript", "engine", "saved_model", "pb")  # these run what is in the file, whatever that is
FOLDERS = (".mlpackage", ".aimodel")  # besides those of which only the end of the name tells
ANY_BATCH = ("torchscript", "ncnn")  # formats that take any number of images, whatever they were exported for


def suffixes() -> dict[str, str]:
    """Returns the format of each ending of a name, `pt` for a checkpoint."""
    from ultralytics.engine.exporter import export_formats

    table = export_formats()
    return {
        suffix: "pt" if name == "-" else name for suffix, name in zip(table["Suffix"], table["Argument"], strict=True)
    }


def suffix_of(path: Path) -> str | None:
    """Returns by which ending a name tells its format: the longest; None if by none."""
    return max((suffix for suffix in suffixes() if path.name.lower().endswith(suffix)), key=len, default=None)


def find(word: str) -> Path:
    """Returns the path of a file to measure, relative to the current folder or to the repository.

    Raises:
        PruningError: If it is not there, or of no format that the release knows.
    """
    path = places.first_there(word)
    if path is None:
        name = places.shown(places.ROOT / word)
        raise PruningError(f"'{name}' is not there; name checkpoints, exported files, or settings, key=value")
    suffix = suffix_of(path)
    if suffix is None:
        raise PruningError(
            f"'{places.shown(path)}' cannot be measured: it is of no known format; {hint(path.suffix, suffixes())}"
        )
    if path.is_dir() and "." in suffix and suffix not in FOLDERS:
        raise PruningError(f"'{places.shown(path)}' cannot be measured: it is a folder")
    return path.resolve()


def checkpoint_of(path: Path) -> Path:
    """Returns the checkpoint that an exported file lies beside, by its name."""
    return path.with_name(path.name[: -len(suffix_of(path) or "")] + ".pt")


def describe(path: Path, settings: dict[str, Any]) -> Measurement:
    """Describes a file that is not measured yet.

    Raises:
        PruningError: If it is damaged or foreign, does not take images of the size in the settings, or what runs it is
            not here.
    """
    name, imgsz, device = places.shown(path), settings["imgsz"], settings["device"]
    kind = suffixes()[suffix_of(path) or ""]
    check_runs(kind, name, device)
    row = Measurement(name, "", 0, None, None, _size(path) / 1e6, imgsz, settings["batch"], device, format=kind)
    row = replace(row, runtime=_runtime(kind), device=device if kind in ON_GPUS else "cpu")
    if kind != "pt":
        row = _describe_export(path, row, settings)
        return replace(row, single_cls=settings.get("single_cls", row.single_cls))

    model, content = checkpoint.load(path, trained_with_bn=False)
    stride = max(int(model.stride.max()), 32)
    if imgsz % stride:
        raise PruningError(
            f"imgsz {imgsz}: '{name}' takes multiples of {stride}, e.g. {imgsz + stride - imgsz % stride}"
        )
    cost = cost_of(trace(model, imgsz=imgsz))
    return replace(
        row,
        task=model.task,
        classes=len(model.names),
        names=tuple(known_names(model)),
        single_cls=checkpoint.counts_as_one(settings, content),
        shapes=dict(model.yaml),
        parameters=cost.deployed,
        gflops=cost.gflops,
        arithmetic="float16" if half(settings) and device != "cpu" else "float32",
    )


def check_runs(kind: str, name: str, device: str) -> None:
    """Refuses a file that cannot be run here, or not safely.

    Raises:
        PruningError: If its package is missing, it needs a GPU, or it may run code that nobody trusts.
    """
    packages.need(packages.RUNTIMES.get(kind, ()), f"'{name}'")
    if kind == "engine" and device == "cpu":
        raise PruningError(f"'{name}' runs on a CUDA GPU only: measure it with --device 0")
    if kind in PROGRAMS and not trust.trusted():
        raise PruningError(f"'{name}' is a program, of which no part can be looked at beforehand; {trust.HOW}")


def _describe_export(path: Path, row: Measurement, settings: dict[str, Any]) -> Measurement:
    """Completes the description of an exported file from what the release wrote into it; its cost is not in there.

    Raises:
        PruningError: If it is damaged or foreign, or does not take images of this size.
    """
    file = read_onnx(path, row.checkpoint) if row.format == "onnx" else _read(path, row)
    if not file.dynamic and file.sides != (row.imgsz, row.imgsz):
        size = " x ".join(map(str, file.sides))
        raise PruningError(f"'{row.checkpoint}' takes images of {size} pixels only; imgsz is {row.imgsz}")
    free = file.dynamic or (row.format in ANY_BATCH and not file.chooses)
    row = replace(
        row,
        task=file.task,
        classes=len(file.names),
        names=file.names,
        shapes={"channels": file.channels, "kpt_shape": file.keypoints},
        single_cls=dict(enumerate(file.names)) == ONE_CLASS,
        parameters=file.parameters,
        batch=row.batch if file.dynamic or row.format == "torchscript" else file.batch,
        fixed=None if free else file.batch,
        arithmetic=file.precision,
    )
    if row.format != "onnx":
        return _tried(path, row, settings)
    try_out(path, row.checkpoint, file, row.batch, (row.imgsz, row.imgsz))
    import onnxruntime

    # On a GPU without the ONNX Runtime for it, the release asks for another package first.
    on_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return replace(row, device=row.device if on_gpu else "cpu")


def _read(path: Path, row: Measurement) -> Exported:
    """Reads what an exported file says about itself; nothing is run.

    Raises:
        PruningError: If it says nothing, or what cannot be true.
    """
    from ultralytics.nn.autobackend import AutoBackend

    backend = AutoBackend._BACKEND_MAP[row.format]
    return described(backend.read_metadata(path), None, backend, row.checkpoint)


def _tried(path: Path, row: Measurement, settings: dict[str, Any]) -> Measurement:
    """Runs an exported file once, on an image of noise; returns its row with the arithmetic that it runs in.

    Raises:
        PruningError: If its runtime does not load or run it.
    """
    try:
        with isolated():
            network = open_file(path, row.device, 1, settings)
            run_of(network, (row.fixed or 1, row.shapes["channels"], row.imgsz, row.imgsz))()
    except Exception as error:  # each runtime raises what it raises
        raise PruningError(f"'{row.checkpoint}' does not run by {row.runtime}: {typed_line(error)[:200]}") from error
    chosen = arithmetic_of(network) if row.arithmetic == "float32" else None
    return replace(row, arithmetic=chosen or row.arithmetic)


def _runtime(kind: str) -> str:
    """Returns what runs a format, with its version."""
    modules = packages.RUNTIMES.get(kind, ("torch",))
    module = "onnxruntime" if "onnxruntime" in modules else modules[0]
    found = getattr(importlib.import_module(module), "__version__", "")
    return f"{module} {found}".strip()


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of all in a folder."""
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )
