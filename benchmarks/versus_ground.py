"""What all methods of `versus.py` share: the dense network, the data, one recipe for all trainings."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import yaml
from zoo_models import randomise

from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.compression import work
from ultralytics.pruning.compression.recipe import Recipe, images_of
from ultralytics.pruning.cost import Cost, cost_of
from ultralytics.pruning.data.sets import names_in
from ultralytics.pruning.deploy.exporting import export_by_release, val_images
from ultralytics.pruning.passes.validating import validate
from ultralytics.pruning.release import quiet_release
from ultralytics.pruning.selection.targets import Target
from ultralytics.pruning.tracing.trace import trace
from ultralytics.pruning.training.fine_tuning import CHOICE

COMMON = dict(zip(("optimizer", "lr0"), CHOICE, strict=True))  # what a fine-tuning takes by itself, and so all do


@dataclass(frozen=True)
class Ground:
    """What all methods share.

    Attributes:
        weights: The trained dense network.
        data: The yaml of the data set.
        title: How the page calls the data set.
        imgsz: Side of the images in pixels.
        batch: Images per step.
        epochs: That each method gets, all its trainings together.
        dense_epochs: That the dense network has had: a network trained from scratch gets them too.
        seed: Of all trainings.
        device: Where they run.
    """

    weights: Path
    data: str
    title: str
    imgsz: int
    batch: int
    epochs: int
    dense_epochs: int
    seed: int
    device: str = "cpu"

    @property
    def name(self) -> str:
        """What tells it from others, but for the seed."""
        network = self.weights.parents[1].name if self.weights.parent.name == "weights" else self.weights.stem
        return f"{self.title}, {network}, {self.imgsz} px, {self.epochs} epochs"

    def training(self) -> dict[str, Any]:
        """Returns the arguments of all trainings, but for the optimizer's."""
        fixed = {"plots": False, "workers": 0 if self.device == "cpu" else 8, "device": self.device}
        return {"imgsz": self.imgsz, "batch": self.batch, "nbs": self.batch, "seed": self.seed, **fixed}

    def cost(self) -> Cost:
        """Returns what the dense network costs."""
        return cost_of_file(self.weights, self.imgsz)


@dataclass(frozen=True)
class Made:
    """What a method has made.

    Attributes:
        file: The network: a checkpoint or an ONNX.
        imgsz: The side of images that it looks at, in pixels.
        settings: All that the method was given, in words or numbers.
        network: The checkpoint that an ONNX was made from.
    """

    file: Path
    imgsz: int
    settings: dict[str, Any] = field(default_factory=dict)
    network: Path | None = None


@dataclass(frozen=True)
class Job:
    """What a method is called with.

    Attributes:
        ground: What all methods share.
        level: Share of the multiply-adds to leave.
        folder: Where it works, alone.
        made: Networks of other methods at this level, by the method's name.
    """

    ground: Ground
    level: float
    folder: Path
    made: Mapping[str, Path]

    def train(self, name: str, start: Path, epochs: int, *, imgsz: int | None = None, **settings: Any) -> Path:
        """Trains a network as it is, by the recipe of all; one that is finished is not trained again.

        Args:
            name: Of the training's folder.
            start: The checkpoint.
            epochs: How many.
            imgsz: Side of the images, if it is not that of all.
            settings: Training arguments that differ from those of all.

        Returns:
            The best checkpoint of the training.
        """
        training = {**self.ground.training(), "imgsz": imgsz or self.ground.imgsz}
        recipe = Recipe(
            weights=str(self.ground.weights),
            sha256="",
            images=images_of(training, self.ground.data),
            target=Target("speed_up", 1 / self.level),
            scheme="one-shot",
            training=training,
        )
        asked = {"finetune": True, "epochs": epochs, **settings}
        return work.train(name, start, asked, recipe, self.folder).with_name("best.pt")


def steps_of(file: Path) -> dict[str, Any]:
    """Returns by what optimizer and learning rate a checkpoint was trained."""
    trained = checkpoint.load(file)[1]["train_args"]
    return {name: trained[name] for name in COMMON}


def cost_of_network(model: Any, imgsz: int) -> Cost:
    """Returns what a network costs at a size of images, in pixels."""
    return cost_of(trace(model, imgsz=imgsz))


def cost_of_file(file: Path, imgsz: int) -> Cost:
    """Returns what the network of a checkpoint costs at a size of images, in pixels."""
    return cost_of_network(checkpoint.load(file)[0], imgsz)


def accuracy(made: Made, ground: Ground, folder: Path) -> dict[str, float]:
    """Returns mAP50 and mAP50-95 on the val split, in 0..1, with images padded to squares as an ONNX needs them."""
    batch, device = (1, "cpu") if made.file.suffix == ".onnx" else (ground.batch, ground.device)
    asked = {"data": ground.data, "imgsz": made.imgsz, "batch": batch, "device": device, "rect": False, "workers": 0}
    where = {"project": str(folder), "name": "val", "exist_ok": True, "plots": False, "verbose": False}
    metrics, _, _ = validate(made.file, {**asked, **where})
    return {"map50": float(metrics.box.map50), "map": float(metrics.box.map)}


def exported(file: Path, imgsz: int) -> Path:
    """Returns the ONNX of a checkpoint, beside it, which is exported once for each size of images."""
    onnx = file.with_name(f"{file.stem}-{imgsz}.onnx")
    if file.suffix == ".onnx":
        return file
    if not (onnx.is_file() and onnx.stat().st_mtime >= file.stat().st_mtime):
        with quiet_release():
            export_by_release(file, {"format": "onnx", "imgsz": imgsz, "device": "cpu"}).replace(onnx)
    return onnx


def tiny(ground: Ground, folder: Path, images: int = 16) -> Ground:
    """Returns the same in a form that takes seconds: 64 pixels, few images, which are copied, and one epoch."""
    content = yaml.safe_load(Path(ground.data).read_text(encoding="utf-8"))
    root = folder / "data"
    for split in ("train", "val"):
        source = val_images(_with_split(ground.data, content, split, folder))
        for image in source[:images]:
            labels = Path(*("labels" if part == "images" else part for part in image.parts)).with_suffix(".txt")
            for file, kind in ((image, "images"), (labels, "labels")):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # an image without objects
                    shutil.copy(file, root / kind / split)
    few = {"path": str(root), "train": "images/train", "val": "images/val", "names": content["names"]}
    (root / "data.yaml").write_text(yaml.safe_dump(few), encoding="utf-8")
    small = {"imgsz": 64, "batch": 8, "epochs": 1, "dense_epochs": 1}
    return replace(ground, data=str(root / "data.yaml"), title=f"{ground.title} (tiny)", **small)


def untrained(cfg: Path, data: str, file: Path) -> Path:
    """Writes an untrained network of a model yaml for the classes of a data set, whose gammas differ; for `--tiny`."""
    from ultralytics.nn.tasks import DetectionModel

    names = names_in(data)
    model: Any = DetectionModel(str(cfg), nc=len(names), verbose=False)
    randomise(model)
    model.names, model.task = names, "detect"
    file.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, file)
    return file


def _with_split(data: str, content: dict[str, Any], split: str, folder: Path) -> str:
    """Returns the yaml of a data set whose val split is another of its splits."""
    folder.mkdir(parents=True, exist_ok=True)
    root = content.get("path")
    path = Path(data).parent if not root or not Path(root).is_absolute() else Path(root)
    file = folder / f"{split}.yaml"
    file.write_text(yaml.safe_dump({**content, "path": str(path), "val": content[split]}), encoding="utf-8")
    return str(file)


@contextlib.contextmanager
def logged(file: Path) -> Iterator[None]:
    """Writes what is said inside the block to a file, the release's words too; nothing is on the screen."""
    from ultralytics.utils import LOGGER

    with file.open("a", encoding="utf-8") as log:
        streams = [(handler, handler.stream) for handler in LOGGER.handlers if hasattr(handler, "setStream")]
        for handler, _ in streams:
            handler.setStream(log)
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield
        finally:
            for handler, stream in streams:
                handler.setStream(stream)
