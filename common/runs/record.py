"""The hand-over between a method and its evaluation: one directory a run, written as the run goes.

    manifest.json       what was run, on what, with which versions; `complete: true` once everything is written
    predictions.jsonl   a line an image, in the order they were localized
    maps/               optional localization maps, `<image_id>.npy`, float32 or float64 in [0, 1], in the frame's size

A run that is stopped continues after the last whole line. wsolevaluation reads `maps/` as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.datasets.files.text import undecodable_line
from common.measuring.arrays import Boxes
from common.measuring.geometry import Frame
from common.system.errors import UserError, inside
from common.system.files import need_file, parse_json
from common.system.wording import shorten

LINES, MAPS, MASKS = "predictions.jsonl", "maps", "masks"
LONGEST_LINE = 1_000_000
"""Characters; a line of ours has some 500."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """One image's line.

    Attributes:
        image_id: as in the data set.
        label: 0-based true class, which localization maps of GT-known evaluation are made for.
        size: width and height of the original image.
        frame: where the network input lay in it.
        top5: the five best classes, best first (fewer where there are fewer classes); None where nobody classified.
        top5_scores: their probabilities.
        box: (4,) in pixels of the frame, None where nothing was found.
        threshold: the one `box` was made with.
    """

    image_id: str
    label: int
    size: tuple[int, int]
    frame: Frame
    top5: tuple[int, ...] | None
    top5_scores: tuple[float, ...] | None
    box: Boxes | None
    threshold: float

    @property
    def boxes(self) -> Boxes:
        """`box` as (1, 4), or (0, 4) where there is none."""
        return np.empty((0, 4)) if self.box is None else self.box[None]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as a line of `predictions.jsonl` holds them."""
        return {
            "image_id": self.image_id,
            "label": self.label,
            "size": list(self.size),
            "frame": self.frame.to_json(),
            "top5": None if self.top5 is None else list(self.top5),
            "top5_scores": None if self.top5_scores is None else [round(score, 6) for score in self.top5_scores],
            "box": None if self.box is None else [float(value) for value in self.box],
            "threshold": self.threshold,
        }


def map_path(directory: Path, image_id: str) -> Path:
    """Path of an image's map; an id that leaves the directory is refused (`UserError`)."""
    return inside(directory / MAPS, f"{image_id}.npy", where=directory)


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, parsed line) for each line."""
    need_file(path)
    try:
        with open(path, encoding="utf-8") as file:
            for line, text in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), ""), start=1):
                if len(text) > LONGEST_LINE:
                    raise UserError(f"the line is longer than {LONGEST_LINE:,} characters", where=path, line=line)
                try:
                    record = parse_json(text)
                except ValueError as error:
                    raise UserError(f"not a line of JSON ({error})", where=path, line=line) from error
                if not isinstance(record, dict) or not isinstance(record.get("image_id"), str):
                    raise UserError("no image_id in this line", where=path, line=line)
                yield line, record
    except FileNotFoundError as error:
        raise UserError("no such file", where=path) from error
    except OSError as error:
        raise UserError(f"can't be read ({error.strerror})", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError("the file is not UTF-8 text", where=path, line=undecodable_line(path)) from error


def parse(record: dict[str, Any], where: Path, line: int) -> Prediction:
    """One line as a `Prediction`; one that makes no sense is refused (`UserError`)."""

    def refuse(name: str, expected: str) -> UserError:
        return UserError(f"{name} is {shorten(record.get(name))}", where=where, line=line, expected=expected)

    told: Callable[[str], Any] = record.get
    label, size, top5, box = map(told, ("label", "size", "top5", "box"))
    scores, threshold = map(told, ("top5_scores", "threshold"))
    if type(label) is not int or label < 0:
        raise refuse("label", "a whole number from 0")
    if not _is_numbers(size, 2, int) or min(size) < 1:
        raise refuse("size", "width and height")
    if top5 is not None and not (_is_numbers(top5, None, int) and 1 <= len(top5) <= 5 and min(top5) >= 0):
        raise refuse("top5", "one to five class numbers, or null")
    if scores is not None and not _is_numbers(scores, None if top5 is None else len(top5), int | float):
        raise refuse("top5_scores", "a number for each of top5, or null")
    if box is not None and not _is_numbers(box, 4, int | float):
        raise refuse("box", "x0 y0 x1 y1, or null")
    if not _is_numbers([threshold], 1, int | float):
        raise refuse("threshold", "a number")
    try:
        frame = Frame.from_json(told("frame"))
    except ValueError as error:
        raise UserError(str(error), where=where, line=line) from error
    if tuple(frame.original) != tuple(size):
        raise refuse("size", f"the frame's original size {list(frame.original)}")
    return Prediction(
        image_id=record["image_id"],
        label=label,
        size=tuple(size),
        frame=frame,
        top5=None if top5 is None else tuple(top5),
        top5_scores=None if scores is None else tuple(map(float, scores)),
        box=None if box is None else np.array(box, dtype=np.float64),
        threshold=float(threshold),
    )


def _is_numbers(value: Any, length: int | None, kind: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or length not in (None, len(value)):
        return False
    return all(isinstance(item, kind) and not isinstance(item, bool) and abs(item) <= _LARGEST for item in value)


_LARGEST = 1e15
"""Bound of any number in a line; NaN and infinity are not below it."""
