"""The built-in demo detection data set: handwritten digits pasted on photographs.

All of it is made from files that scikit-learn installs, hence without the network.
"""

import fcntl
import json
import math
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from sklearn.datasets import load_digits, load_sample_images

FORMAT = 1  # raise it whenever the code makes other files from the same recipe
GLYPHS = 1797  # in load_digits
INK = 0.35  # coverage from which a pixel counts as ink of its digit
TRIES = 100  # to place a digit


@dataclass(frozen=True)
class Recipe:
    """The numbers that define the data set; ranges include both ends."""

    train: int = 600  # images
    val: int = 200  # images
    image_size: int = 160  # side, pixels
    seed: int = 0
    # Glyphs from this index on belong to val. load_digits lists them writer by writer and a new writer starts
    # at 1415, so that the default keeps the writers apart as well.
    first_val_glyph: int = 1415
    digits: tuple[int, int] = (2, 6)  # per image
    glyph_size: tuple[int, int] = (14, 44)  # side of the enlarged 8 x 8 glyph, pixels
    max_angle: float = 25.0  # rotation either way, degrees
    opacity: tuple[float, float] = (0.45, 1.0)  # of full ink
    contrast: tuple[float, float] = (60.0, 120.0)  # brightness against the local background, grey levels
    max_noise: float = 8.0  # standard deviation, grey levels
    crop_size: tuple[int, int] = (120, 210)  # side of the background's crop in the photograph, pixels
    # Shared area of two boxes as a part of the smaller one: by IoU, a large digit could hide a small one.
    max_overlap: float = 0.25  # keeps the IoU below 0.15


def split_glyphs(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices in load_digits for train and for val: two disjoint 1-D integer arrays."""
    return np.arange(recipe.first_val_glyph), np.arange(recipe.first_val_glyph, GLYPHS)


def _bounds(mask: np.ndarray) -> np.ndarray:
    """Return the tight box (x0, y0, x1, y1) around a mask's true pixels, ends exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the area that two boxes (x0, y0, x1, y1) share, as a part of the smaller one."""
    shared = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return shared / min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod())


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Return the Catmull-Rom kernel's weight at a distance, in samples."""
    d = np.abs(distance)
    inner, outer = (1.5 * d - 2.5) * d * d + 1, ((2.5 - 0.5 * d) * d - 4) * d + 2
    return np.where(d < 1, inner, np.where(d < 2, outer, 0))


def _render(glyph: np.ndarray, size: float, angle: float) -> np.ndarray:
    """Enlarge an (8, 8) glyph to `size` pixels and rotate it; return its trimmed coverage, (h, w), 0 to 1."""
    # Not cv2.warpAffine: its results differ slightly from one kind of processor to another.
    offset = (np.arange(2 * math.ceil(size)) + 0.5 - math.ceil(size)) * 8 / size
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x = cos * offset - sin * offset[:, None] + 3.5  # where each pixel lies in the glyph
    y = sin * offset + cos * offset[:, None] + 3.5
    weight_x, weight_y = (_cubic(v[..., None] - np.arange(8)) for v in (x, y))
    grey = ((weight_y @ glyph) * weight_x).sum(-1) / 16
    coverage = np.clip((grey - 0.15) / 0.4, 0, 1)  # steeper edges: an enlarged glyph is a blur
    x0, y0, x1, y1 = _bounds(coverage > 0)
    return coverage[y0:y1, x0:x1]


def _background(photo: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Return a random crop of a photo, mirrored half of the time, (image_size, image_size, 3), float64."""
    side = rng.integers(*recipe.crop_size, endpoint=True)
    y, x = (rng.integers(length - side, endpoint=True) for length in photo.shape[:2])
    crop = np.ascontiguousarray(photo[y : y + side, x : x + side][:, :: rng.choice([-1, 1])])
    return cv2.resize(crop, (recipe.image_size,) * 2, interpolation=cv2.INTER_LINEAR_EXACT).astype(float)


def _colour(mean: float, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Return a BGR colour of random hue, clearly brighter or darker than `mean` (grey levels)."""
    step = rng.uniform(*recipe.contrast) * rng.choice([-1, 1])
    luma = mean + step if 0 <= mean + step <= 255 else mean - step
    hue, chroma = rng.uniform(0, 2 * math.pi), rng.uniform(0, 70)
    cb, cr = chroma * math.cos(hue), chroma * math.sin(hue)
    return np.clip(np.round(luma + np.array([1.772 * cb, -0.344 * cb - 0.714 * cr, 1.402 * cr])), 0, 255)


def draw_image(
    photos: list[np.ndarray], glyphs: np.ndarray, recipe: Recipe, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one image with its digits.

    Args:
        photos (list[np.ndarray]): BGR photographs for the background, each (H, W, 3), uint8.
        glyphs (np.ndarray): Glyphs to choose from, (n, 8, 8), 0 to 16.
        recipe (Recipe): What to make.
        rng (np.random.Generator): Source of the random choices.

    Returns:
        (tuple[np.ndarray, np.ndarray, np.ndarray]): The BGR image, (image_size, image_size, 3), uint8; the
            positions in `glyphs` of its k digits, (k,); their boxes (x0, y0, x1, y1) in pixels, (k, 4).
    """
    image = _background(photos[rng.integers(len(photos))], recipe, rng)
    placed: list[int] = []
    boxes: list[np.ndarray] = []
    for index in rng.integers(len(glyphs), size=rng.integers(*recipe.digits, endpoint=True)):
        angle = rng.uniform(-recipe.max_angle, recipe.max_angle)
        coverage = _render(glyphs[index], rng.uniform(*recipe.glyph_size), angle)
        height, width = coverage.shape
        ink = _bounds(coverage >= INK)
        for _ in range(TRIES):
            x, y = rng.integers((recipe.image_size - width, recipe.image_size - height), endpoint=True)
            box = ink + (x, y, x, y)
            if all(_overlap(box, other) <= recipe.max_overlap for other in boxes):
                break
        else:
            continue  # no room left: the image gets fewer digits
        patch = image[y : y + height, x : x + width]
        colour = _colour(patch.mean((0, 1)) @ (0.114, 0.587, 0.299), recipe, rng)
        patch += (colour - patch) * (coverage * rng.uniform(*recipe.opacity))[..., None]
        placed.append(index)
        boxes.append(box)
    image += rng.normal(0, rng.uniform(0, recipe.max_noise), image.shape)
    return np.clip(np.round(image), 0, 255).astype(np.uint8), np.array(placed), np.array(boxes)


def _write_files(folder: Path, recipe: Recipe) -> None:
    """Write the images, the labels and recipe.json into a folder that does not exist yet."""
    data = load_digits()
    photos = [photo[..., ::-1] for photo in load_sample_images().images]  # BGR
    edge = photos[0].shape[1] * 3 // 5  # train gets the left 3/5 of each photograph, val the rest
    regions = {"train": [p[:, :edge] for p in photos], "val": [p[:, edge:] for p in photos]}
    for number, (split, indices) in enumerate(zip(regions, split_glyphs(recipe), strict=True)):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for i in range(getattr(recipe, split)):
            rng = np.random.default_rng([recipe.seed, number, i])
            image, placed, boxes = draw_image(regions[split], data.images[indices], recipe, rng)
            xywh = np.hstack([boxes[:, :2] + boxes[:, 2:], 2 * (boxes[:, 2:] - boxes[:, :2])]) / 2
            rows = zip(data.target[indices[placed]], xywh / recipe.image_size, strict=True)
            lines = [f"{digit} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for digit, (x, y, w, h) in rows]
            (labels / f"{i:04d}.txt").write_text("".join(lines))
            # write_bytes raises on a full disk, where cv2.imwrite would only return False.
            (images / f"{i:04d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    (folder / "recipe.json").write_text(_recipe_text(recipe))


def _recipe_text(recipe: Recipe) -> str:
    return json.dumps({"format": FORMAT, **asdict(recipe)}, indent=1) + "\n"


def _has_text(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


def _is_complete(folder: Path, recipe: Recipe) -> bool:
    """Tell whether a folder holds this recipe's set; counting its files notices deleted ones."""
    return _has_text(folder / "recipe.json", _recipe_text(recipe)) and all(
        len(list(folder.glob(pattern))) == getattr(recipe, split)
        for split in ("train", "val")
        for pattern in (f"images/{split}/*.png", f"labels/{split}/*.txt")
    )


def _replace(folder: Path, recipe: Recipe) -> None:
    """Build under another name and rename, so that `folder` never holds a part only. Needs the lock."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "recipe.json").is_file():
        raise FileExistsError(f"{folder} holds something other than the digits data set: move it away first")
    work = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(work, ignore_errors=True)  # of a killed build: a running one would hold the lock
    try:
        _write_files(work / "new", recipe)
        if folder.exists():
            folder.rename(work / "old")
        (work / "new").rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _yaml_text(folder: Path) -> str:
    """Return the content of `digits.yaml` for a set in a folder."""
    entries = {"path": str(folder), "train": "images/train", "val": "images/val", "nc": 10}
    entries["names"] = {digit: str(digit) for digit in range(10)}
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)


def _write_yaml(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)


def note_place(folder: Path) -> None:
    """Write the place of a set that was moved, of whatever recipe, into its `digits.yaml`."""
    folder = Path(folder).resolve()
    file, text = folder / "digits.yaml", _yaml_text(folder)
    if not _has_text(file, text):
        _write_yaml(file, text)


def build(folder: Path, recipe: Recipe = Recipe()) -> Path:
    """Make the data set unless it is complete already.

    Args:
        folder (Path): Where the data set lies or shall lie; a hidden lock file is left beside it.
        recipe (Recipe): What to make. A set of another recipe in `folder` is replaced.

    Returns:
        (Path): The data set's `digits.yaml`, in `folder`, with the absolute path of `folder` in it.

    Raises:
        FileExistsError: If `folder` holds files, but no `recipe.json`, hence something else.
        OSError: If the files cannot be written.
    """
    folder = Path(folder).resolve()
    file, text = folder / "digits.yaml", _yaml_text(folder)
    if _is_complete(folder, recipe) and _has_text(file, text):
        return file  # without the lock, so that a set on a read-only disk works too
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process, even with a killed one
        if not _is_complete(folder, recipe):  # another process may have built it meanwhile
            _replace(folder, recipe)
        if not _has_text(file, text):  # a new set, or one that was moved
            _write_yaml(file, text)
    return file
