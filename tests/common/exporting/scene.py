"""Two splits of two classes, and an export of runs on them."""

from pathlib import Path

import numpy as np

from common.export import Export
from common.exporting.dataset import DetectionOptions, export_dataset

SIZE = (200, 120)
NAMES = ("Möwe", "tern, common")
BOXES = {"one bird.png": (20, 10, 120, 100), "two,birds.png": (50, 30, 180, 110), "three.png": (0, 0, 90, 60)}


def exported(directories, tmp_path, kind, measure=False, **options) -> tuple[Path, list[str]]:
    out = tmp_path / "out"
    asked = Export(tuple(directories.values()), out=out)
    detection = DetectionOptions(**{"threshold": 0.5, **options})
    return out, export_dataset(asked, detection, kind, out, overwrite=False, measure=measure)


def truth(split: str) -> dict[str, tuple[int, tuple]]:
    """Image id to label and box."""
    return {f"{name}/{file}": (label, box) for label, name in enumerate(NAMES) for file, box in BOXES.items()}


def close(found, expected) -> bool:
    """Within a pixel of the frame, which is what the maps were drawn on."""
    return np.abs(np.subtract(found, expected)).max() <= 1
