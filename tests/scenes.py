"""A small folder in VOC's layout, for tests of what trains and segments on it."""

from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("red", "green", "blue")
SPLITS = {"train": 8, "val": 3, "test": 3}


def write(root: Path, splits: dict[str, int] | None = None, size: tuple[int, int] = (48, 64)) -> Path:
    """Grey pictures (height, width) with one to three squares, each class in its own colour."""
    splits = splits or SPLITS
    for folder in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate(splits.items()):
        ids = [f"{split}_{index}" for index in range(count)]
        for index, image_id in enumerate(ids):
            _write_one(root, image_id, np.random.default_rng((number, index)), size)
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("".join(f"{each}\n" for each in ids))
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return root


def _write_one(root: Path, image_id: str, rng: np.random.Generator, size: tuple[int, int]) -> None:
    height, width = size
    image = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
    labels = np.zeros((height, width), np.uint8)
    for label in rng.choice(3, rng.integers(1, 4), replace=False):
        y, x = rng.integers(0, height - 20), rng.integers(0, width - 20)
        image[y : y + 20, x : x + 20] = 40
        image[y : y + 20, x : x + 20, label] = 220
        labels[y : y + 20, x : x + 20] = label + 1
    labels[0] = 255
    Image.fromarray(image).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
    Image.fromarray(labels).save(root / "SegmentationClass" / f"{image_id}.png")
    objects = "".join(f"<object><name>{NAMES[label - 1]}</name></object>" for label in np.unique(labels[1:]) if label)
    (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
