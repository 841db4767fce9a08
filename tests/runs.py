"""Predictions directories made by hand, for tests of what reads them."""

from pathlib import Path

import numpy as np

from common.datasets import DataSource
from common.measuring.geometry import Frame
from common.runs.record import Prediction
from common.runs.writer import PredictionsWriter


def header(source: DataSource, frame: str = "resize 224", **fields) -> dict:
    """A manifest's header as a localize command writes it."""
    dataset = source.load()
    return {
        "method": "cam",
        "architecture": "mobilenet_v1",
        "data": source.described(dataset),
        "checkpoint": {"name": "final.pth", "sha256": "0" * 64},
        "classifier": {"name": "mobilenet_v1", "crops": 10},
        "frame": frame,
        "options": {},
        **fields,
    }


def map_around(box: np.ndarray, frame: Frame) -> np.ndarray:
    """A map that is 1 on a box of the original image and 0.1 elsewhere, in the frame."""
    width, height = frame.size
    picture = np.full((height, width), 0.1, np.float32)
    x0, y0, x1, y1 = frame.clip(frame.to_frame(box))[0].round().astype(int)
    picture[y0:y1, x0:x1] = 1.0
    return picture


def write(
    directory: Path,
    source: DataSource,
    frame: str = "resize 224",
    maps: bool = True,
    misses: int = 0,
    boxes: dict[str, np.ndarray] | None = None,
    **fields,
) -> Path:
    """A finished run whose maps hit every box, except those of the first `misses` images, which point elsewhere.

    `boxes` says what to hit, by image id, where the data set has no boxes.
    """
    writer = PredictionsWriter(directory, header(source, frame, **fields))
    for number, sample in enumerate(source.load()):
        where = Frame.of_kind(frame, sample.size)
        hit = sample.boxes[0] if boxes is None else boxes[sample.image_id][0]
        box = hit if number >= misses else np.array([sample.size[0] - 9, sample.size[1] - 9, *sample.size])
        predicted = where.clip(where.to_frame(box))[0]
        others = [label for label in range(3) if label != sample.label]
        entry = Prediction(
            sample.image_id, sample.label, sample.size, where, (sample.label, *others), (0.5, 0.3, 0.2), predicted, 0.2
        )
        writer.write(entry, map_around(box, where) if maps else None)
    writer.finish()
    return directory
