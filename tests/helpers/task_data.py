"""A model yaml and a data set of four images for each task."""

from pathlib import Path

import cv2
import numpy as np
import yaml


def write_images(folder: Path, count: int = 4) -> list[Path]:
    """Writes noise images and returns their files."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    files = [folder / f"{i}.png" for i in range(count)]
    for file in files:
        cv2.imwrite(str(file), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    return files


def write_data(task: str, folder: Path) -> str:
    """Writes a data set of four images for a task and returns what `data=` takes."""
    if task == "classify":
        for split in ("train", "val"):
            for name in ("a", "b"):
                write_images(folder / split / name)
        return str(folder)
    files = write_images(folder / "images")
    data = {"path": str(folder), "train": "images", "val": "images", "names": {0: "a", 1: "b"}}
    if task in ("semantic", "depth"):  # a picture for each picture: of classes, or of millimetres
        data |= {"semantic": {"masks_dir": "masks"}, "depth": {"names": {0: "depth"}, "depth_scale": 1000}}[task]
        target = folder / {"semantic": "masks", "depth": "depth"}[task]
        target.mkdir()
        for file in files:
            half = np.full((64, 64), 2000, np.uint16) if task == "depth" else np.zeros((64, 64), np.uint8)
            half[:, 32:] += 1
            cv2.imwrite(str(target / file.name), half)
        (folder / "data.yaml").write_text(yaml.safe_dump(data))
        return str(folder / "data.yaml")
    box = {
        "detect": "0.5 0.5 0.4 0.4",
        "segment": "0.3 0.3 0.7 0.3 0.7 0.7 0.3 0.7",
        "pose": "0.5 0.5 0.4 0.4 " + "0.5 0.5 2 " * 17,
        "obb": "0.3 0.3 0.7 0.3 0.7 0.7 0.3 0.7",
    }[task]
    for file in files:
        label = folder / "labels" / f"{file.stem}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text(f"0 {box}\n")
    if task == "pose":
        data |= {"kpt_shape": [17, 3], "flip_idx": list(range(17)), "names": {0: "a"}}
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    return str(folder / "data.yaml")


MODELS = {
    "detect": "yolov8n.yaml",
    "segment": "yolov8n-seg.yaml",
    "pose": "yolov8n-pose.yaml",
    "obb": "yolov8n-obb.yaml",
    "classify": "yolov8n-cls.yaml",
    "semantic": "yolo26n-sem.yaml",
    "depth": "yolo26n-depth.yaml",
}
