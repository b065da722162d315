"""Tests of the built-in digits data set."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from ultralytics.data.digits import Recipe, build, draw_image, split_glyphs

SMALL = Recipe(train=12, val=6)
MODULE = sys.modules[build.__module__]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, without the yaml, which holds the folder's path."""
    files = (f for f in folder.rglob("*") if f.is_file() and f.name != "digits.yaml")
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def stamps(folder: Path) -> dict[str, int]:
    """Return the modification times of all files below a folder."""
    return {str(f.relative_to(folder)): f.stat().st_mtime_ns for f in folder.rglob("*")}


def read_image(file: Path) -> np.ndarray:
    """Return an image as (H, W, 3)."""
    image = cv2.imread(str(file))
    assert image is not None, file
    return image


def beside(folder: Path) -> set[str]:
    """Return what lies beside a folder, but for the lock."""
    return {f.name for f in folder.parent.iterdir()} - {folder.name, f".{folder.name}.lock"}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set; tests only read it."""
    return build(tmp_path_factory.mktemp("pristine") / "digits", SMALL).parent


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A small set that the test may damage; it was made elsewhere, so its yaml is repaired here."""
    shutil.copytree(pristine, tmp_path / "digits")
    return build(tmp_path / "digits", SMALL).parent


def test_builds_give_the_same_bytes(pristine: Path, tmp_path: Path) -> None:
    assert contents(build(tmp_path / "digits", SMALL).parent) == contents(pristine)


def test_seed_and_images_vary(pristine: Path, tmp_path: Path) -> None:
    other = contents(build(tmp_path / "digits", replace(SMALL, seed=1)).parent)
    images = [data for name, data in [*contents(pristine).items(), *other.items()] if name.endswith(".png")]
    assert len(images) == 2 * (12 + 6) and len(set(images)) == len(images)


def test_splits_are_drawn_independently(pristine: Path) -> None:
    train, val = (
        [len(np.loadtxt(file, ndmin=2)) for file in sorted(pristine.glob(f"labels/{split}/*.txt"))[:6]]
        for split in ("train", "val")
    )
    assert train != val


def test_file_layout(pristine: Path) -> None:
    expected = {"recipe.json"}
    for split, count in (("train", 12), ("val", 6)):
        expected |= {f"images/{split}/{i:04d}.png" for i in range(count)}
        expected |= {f"labels/{split}/{i:04d}.txt" for i in range(count)}
    assert set(contents(pristine)) == expected
    for file in pristine.glob("images/*/*.png"):
        assert read_image(file).shape == (160, 160, 3)


def test_yaml(pristine: Path) -> None:
    assert yaml.safe_load((pristine / "digits.yaml").read_text()) == {
        "path": str(pristine),
        "train": "images/train",
        "val": "images/val",
        "nc": 10,
        "names": {i: str(i) for i in range(10)},
    }


def test_relative_folder_gets_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert yaml.safe_load(build(Path("digits"), SMALL).read_text())["path"] == str(tmp_path / "digits")


def test_split_shares_all_glyphs_out_once() -> None:
    train, val = split_glyphs(Recipe())
    assert sorted([*train, *val]) == list(range(len(load_digits().target)))
    assert min(len(train), len(val)) > 300
    for indices in (train, val):  # no class is rare in either split
        assert np.bincount(load_digits().target[indices], minlength=10).min() > 25


def test_images_use_only_their_splits_glyphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = []

    def record(photos: list, glyphs: np.ndarray, *rest: Any) -> tuple:
        offered.append({glyph.tobytes() for glyph in glyphs})
        return draw_image(photos, glyphs, *rest)

    monkeypatch.setattr(MODULE, "draw_image", record)
    build(tmp_path / "digits", SMALL)
    for used, indices in zip((offered[:12], offered[12:]), split_glyphs(SMALL), strict=True):
        allowed = {glyph.tobytes() for glyph in load_digits().images[indices]}
        assert used and all(glyphs == allowed for glyphs in used)


def test_labels_are_valid(pristine: Path) -> None:
    seen = set()
    for file in pristine.glob("labels/*/*.txt"):
        rows = np.loadtxt(file, ndmin=2)
        assert rows.shape[1] == 5 and SMALL.digits[0] <= len(rows) <= SMALL.digits[1]
        assert (rows[:, 0] % 1 == 0).all() and (rows[:, 0] >= 0).all() and (rows[:, 0] <= 9).all()
        low, high = rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2
        assert low.min() >= -1e-6 and high.max() <= 1 + 1e-6
        # Narrowest: a small "1". Widest: a square glyph on its corner by 25 degrees.
        assert rows[:, 3:].min() * 160 >= 3 and rows[:, 3:].max() * 160 <= 44 * 1.35
        seen |= set(rows[:, 0])
    assert seen == set(range(10))


def test_overlap_is_limited() -> None:
    crowded = Recipe(digits=(12, 12), glyph_size=(14, 60))
    glyphs = load_digits().images
    photo = np.full((300, 300, 3), 100, np.uint8)
    largest = 0.0
    for seed in range(10):
        boxes = draw_image([photo], glyphs, crowded, np.random.default_rng(seed))[2]
        low, high = boxes[:, :2], boxes[:, 2:]
        shared = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low)).clip(0).prod(2)
        areas = (high - low).prod(1)
        iou = shared / (areas[:, None] + areas - shared) - np.eye(len(boxes))
        largest = max(largest, iou.max())
    assert 0 < largest < 0.15


@pytest.mark.parametrize("seed", range(40))
def test_box_is_tight(seed: int) -> None:
    """On a plain photograph the change in brightness shows each pixel's ink: the box must be its extent."""
    alone = Recipe(digits=(1, 1), max_noise=0, opacity=(1, 1))
    photo = np.full((300, 300, 3), 128, np.uint8)
    image, _, boxes = draw_image([photo], load_digits().images, alone, np.random.default_rng(seed))
    change = np.abs(image.astype(float) - 128).sum(2)
    rows, columns = np.nonzero(change > 0.35 * change.max())
    extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(boxes[0], extent, atol=1)  # 1: a pixel may lie on the threshold


@pytest.mark.parametrize(("background", "signs"), [(10, {1}), (128, {-1, 1}), (245, {-1})])
def test_digits_stand_out(background: int, signs: set[int]) -> None:
    plain, glyphs = np.full((300, 300, 3), background, np.uint8), load_digits().images
    alone = Recipe(digits=(1, 1), max_noise=0)
    seen = set()
    for seed in range(20):
        image = draw_image([plain], glyphs, alone, np.random.default_rng(seed))[0]
        change = image @ np.array([0.114, 0.587, 0.299]) - background
        strongest = change.flat[np.abs(change).argmax()]
        assert abs(strongest) > 20  # least contrast at least opacity: 60 * 0.45 = 27, less by clipping
        seen.add(int(np.sign(strongest)))
    assert seen == signs


def test_labels_lie_on_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From file to file: the label's pixels, and only they, differ from the plain background."""
    plain = [np.full((427, 640, 3), 128, np.uint8)]
    monkeypatch.setattr(MODULE, "load_sample_images", lambda: type("Photos", (), {"images": plain}))
    root = build(tmp_path / "digits", replace(SMALL, max_noise=0)).parent
    for file in root.glob("labels/*/*.txt"):
        image = read_image(root / "images" / file.parent.name / f"{file.stem}.png").astype(float)
        change = np.abs(image - 128).max(2)
        outside = np.ones_like(change, bool)
        for _, cx, cy, w, h in np.loadtxt(file, ndmin=2) * 160:
            x0, y0, x1, y1 = np.round([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).astype(int)
            assert change[y0:y1, x0:x1].max() > 20
            outside[max(y0 - 3, 0) : y1 + 3, max(x0 - 3, 0) : x1 + 3] = False  # 3: the soft edge
        assert change[outside].max() == 0


def test_classes_are_those_of_the_glyphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = []

    def record(photos: list, glyphs: np.ndarray, *rest: Any) -> tuple:
        drawn = draw_image(photos, glyphs, *rest)
        placed.append([glyphs[index].tobytes() for index in drawn[1]])
        return drawn

    monkeypatch.setattr(MODULE, "draw_image", record)
    root = build(tmp_path / "digits", SMALL).parent
    data = load_digits()
    digit = {glyph.tobytes(): target for glyph, target in zip(data.images, data.target, strict=True)}
    files = [*sorted(root.glob("labels/train/*.txt")), *sorted(root.glob("labels/val/*.txt"))]
    for file, glyphs in zip(files, placed, strict=True):
        assert list(np.loadtxt(file, ndmin=2)[:, 0]) == [digit[glyph] for glyph in glyphs]


def test_complete_set_is_not_rebuilt(folder: Path) -> None:
    before = stamps(folder)
    assert build(folder, SMALL) == folder / "digits.yaml"
    assert stamps(folder) == before


def test_other_recipe_is_rebuilt(folder: Path, tmp_path: Path) -> None:
    other = replace(SMALL, seed=1)
    build(folder, other)
    assert contents(folder) == contents(build(tmp_path / "fresh" / "digits", other).parent)
    assert beside(folder) == {"fresh"}


@pytest.mark.parametrize("missing", ["images/train/0003.png", "labels/val/0005.txt"])
def test_missing_file_causes_a_rebuild(folder: Path, pristine: Path, missing: str) -> None:
    (folder / missing).unlink()
    build(folder, SMALL)
    assert contents(folder) == contents(pristine)


def test_stale_path_is_repaired_without_rebuild(folder: Path) -> None:
    moved = folder.rename(folder.with_name("moved"))
    before = stamps(moved / "images")
    assert yaml.safe_load((moved / "digits.yaml").read_text())["path"] == str(folder)
    assert yaml.safe_load(build(moved, SMALL).read_text())["path"] == str(moved)
    assert stamps(moved / "images") == before


def test_killed_build_leaves_nothing_that_is_used(pristine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sets" / "digits"
    code = """
import importlib.util, os, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("digits", sys.argv[1])
digits = sys.modules["digits"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(digits)
draw, calls = digits.draw_image, []
digits.draw_image = lambda *a: os._exit(9) if len(calls) == 5 else (calls.append(1), draw(*a))[1]
digits.build(Path(sys.argv[2]), digits.Recipe(train=12, val=6))
"""
    killed = subprocess.run([sys.executable, "-c", code, str(MODULE.__file__), str(folder)], check=False)
    assert killed.returncode == 9
    assert not folder.exists()
    assert beside(folder)  # the half-made files: without them, this test would show nothing
    assert contents(build(folder, SMALL).parent) == contents(pristine)
    assert not beside(folder)


def test_failed_build_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(MODULE, "draw_image", fail)
    with pytest.raises(OSError, match="No space left"):
        build(tmp_path / "digits", SMALL)
    assert not (tmp_path / "digits").exists() and not beside(tmp_path / "digits")


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something other"):
        build(tmp_path / "digits", SMALL)
    assert (tmp_path / "digits" / "thesis.txt").read_text() == "mine"


def test_unwritable_place_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        build(tmp_path / "file" / "digits", SMALL)


def test_concurrent_builders(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count(*args: Any) -> tuple:
        calls.append(1)
        return draw_image(*args)

    monkeypatch.setattr(MODULE, "draw_image", count)
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(lambda _: build(tmp_path / "digits", SMALL), range(4)))
    assert set(files) == {tmp_path / "digits" / "digits.yaml"} and len(calls) == 12 + 6
    assert contents(tmp_path / "digits") == contents(pristine)
    assert not beside(tmp_path / "digits")
