"""Pseudo boxes of held-out images without any true box: a fourth source of thresholds.

Held-out boxes are full supervision, as Murtaza et al. (WACV 2025, "A Realistic Protocol for Evaluation of Weakly
Supervised Object Localization") point out; they choose thresholds on noisy boxes of proposals instead. Here these come
from Selective Search, the proposal that agrees most with the classifier's own map, or from GRCAM's deep descriptors.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from common.datasets import Dataset
from common.datasets.files.text import csv_rows, lines, numbers, refuse_fractions, whole_number
from common.measuring.arrays import Boxes, Bytes, Floats
from common.measuring.boxes import as_boxes, from_x0x1y0y1
from common.measuring.geometry import Frame
from common.pictures.overlays import rescaled
from common.system.errors import UserError
from common.system.files import write_text

HEAD = ["path", "x0", "y0", "x1", "y1"]
SIDE = 300
"""Longest side that Selective Search looks at an image in."""
DESCRIPTOR_SIDE = 224
"""Side of the frame that GRCAM's pseudo boxes are in."""


def proposals(image: Bytes) -> Boxes:
    """Boxes (N, 4) that Selective Search (Uijlings et al., IJCV 2013, fast) proposes, in pixels of the image.

    Args:
        image: (H, W, 3) uint8 RGB.

    Raises:
        UserError: OpenCV was built without its contributed modules.
    """
    if not hasattr(cv2, "ximgproc"):
        raise UserError("this OpenCV has no Selective Search",
                        do="install opencv-contrib-python-headless of the same version in place of "
                        "opencv-python-headless, or use --descriptors")  # fmt: skip
    small = rescaled(image, SIDE)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(small[..., ::-1]))
    search.switchToSelectiveSearchFast()
    found = np.asarray(search.process(), dtype=np.float64).reshape(-1, 4)
    scale = np.tile(np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]]), 2)
    boxes: Boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1) * scale
    return boxes


def most_agreeing(localization_map: Floats, boxes: Boxes) -> int | None:
    """Index of the box, (N, 4) in pixels of the map (H, W), that agrees most with it: mean inside less that outside.

    None where no box covers a pixel without covering all.
    """
    height, width = localization_map.shape
    corners = np.rint(as_boxes(boxes)).astype(int)
    x0, x1 = (np.clip(corners[:, column], 0, width) for column in (0, 2))
    y0, y1 = (np.clip(corners[:, column], 0, height) for column in (1, 3))
    total = cv2.integral(localization_map.astype(np.float64))
    inside = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    area = np.maximum(x1 - x0, 0) * np.maximum(y1 - y0, 0)
    fits = (area > 0) & (area < height * width)
    if not fits.any():
        return None
    contrast = np.full(len(area), -np.inf)
    contrast[fits] = inside[fits] / area[fits] - (total[-1, -1] - inside[fits]) / (height * width - area[fits])
    return int(contrast.argmax())


def read_descriptor_boxes(path: Path, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Boxes]:
    """GRCAM's `name,x0, x1, y0, y1` of step 3 as boxes (4,) in pixels of the original images, whose sizes are given.

    Raises:
        UserError: a malformed line, one of no such image, or two of one image.
    """
    found = {}
    for line, text in lines(path):
        name, *cells = text.rsplit(",", 4)
        if len(cells) != 4 or name not in sizes:
            raise UserError(f"{text!r} is no line about one of the images", where=path, line=line,
                            expected="name,x0, x1, y0, y1")  # fmt: skip
        values = [whole_number(cell.strip(), where=path, line=line, least=0, most=DESCRIPTOR_SIDE - 1, what="the box")
                  for cell in cells]  # fmt: skip
        if name in found:
            raise UserError(f"{name} stands here twice", where=path, line=line, expected="one box an image")
        found[name] = Frame.squash(sizes[name], DESCRIPTOR_SIDE).to_original(from_x0x1y0y1([values]))[0]
    return found


OF_IMAGES = "# images "
"""Beginning of the line before the head that says which images the boxes are of."""


def write(path: Path, boxes: Mapping[str, Boxes], fingerprint: str | None = None) -> None:
    """Write boxes (4,) by image id as `path,x0,y0,x1,y1`, with the fingerprint of the images' data set before it."""
    text = io.StringIO("" if fingerprint is None else f"{OF_IMAGES}{fingerprint}\n")
    text.seek(0, io.SEEK_END)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows([image_id, *(f"{value:.6g}" for value in box)] for image_id, box in boxes.items())
    write_text(path, text.getvalue())


def read(path: Path) -> dict[str, Boxes]:
    """The boxes (4,) by image id that `write` wrote.

    Raises:
        UserError: a malformed line, a box that is empty, two of one image, or boxes that are fractions of the image.
    """
    found: dict[str, Boxes] = {}
    for line, row in csv_rows(path):
        if not found and (row == HEAD or "".join(row[:1]).startswith(OF_IMAGES)):
            continue
        if len(row) != 5:
            raise UserError(f"{len(row)} cells", where=path, line=line, expected=",".join(HEAD))
        box = numbers(row[1:], where=path, line=line, what="the box")
        if box[0] >= box[2] or box[1] >= box[3]:
            raise UserError(f"the box {' '.join(row[1:])} is empty", where=path, line=line)
        if row[0] in found:
            raise UserError(f"{row[0]} stands here twice", where=path, line=line, expected="one box an image")
        found[row[0]] = box
    refuse_fractions(found.values(), where=path)
    return found


def fingerprint_of(path: Path) -> str | None:
    """The fingerprint of the data set that the boxes of a file are of; None where it says none."""
    first = next((text for _, text in lines(path)), "")
    return first.removeprefix(OF_IMAGES).strip() if first.startswith(OF_IMAGES) else None


def read_all(paths: Iterable[Path]) -> dict[str, Boxes]:
    """The boxes (4,) by image id of several files, each of other images.

    Raises:
        UserError: as `read`, or two files have boxes of one image.
    """
    found: dict[str, Boxes] = {}
    for path in paths:
        boxes = read(path)
        if both := sorted(found.keys() & boxes.keys()):
            raise UserError(
                f"{len(both)} of its images have boxes in another file too, {both[0]} among them",
                where=path,
                do="name one of the files",
            )
        found |= boxes
    return found


def with_boxes(dataset: Dataset, boxes: Mapping[str, Boxes]) -> Dataset:
    """The data set with pseudo boxes in place of whatever boxes and masks it has; images without one have none."""
    none = np.empty((0, 4))
    samples = (
        replace(one, boxes=boxes[one.image_id][None] if one.image_id in boxes else none, masks=()) for one in dataset
    )
    return replace(dataset, samples=tuple(samples))
