"""Checks of a split's images and annotations: files that can't be decoded, EXIF tags, boxes and masks that don't fit.

Each gives lines for `common.prepare` to print: problems are returned, notes are appended to a list.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from common.datasets.label_maps import true_label_map
from common.datasets.masks import object_and_ignore
from common.datasets.sample import Dataset, Sample
from common.measuring.geometry import Frame
from common.measuring.plausible import doubts
from common.measuring.segmentation import IGNORE
from common.pictures.images import ImageError, is_turned, read_rgb, read_size
from common.system.errors import UserError
from common.system.parallel import pool_of
from common.system.progress import bar
from common.system.wording import number_of, some

Decode = Literal["all", "headers", "none"]
"""Part of each image that is read: all of it, its size alone, or nothing."""

MANY_STRANGE = 0.05
"""Share of images whose label map may hold none of their classes before it is said; a crowd alone is ignored."""


def without_annotations(dataset: Dataset) -> list[str]:
    """Lines with the number of images without a box, or without a mask, where others have one."""
    boxes, masks = (sum(bool(len(found)) for found in each) for each in (
        (sample.boxes for sample in dataset), (sample.masks for sample in dataset)))  # fmt: skip
    negatives = sum(sample.negative for sample in dataset)
    lines = []
    if 0 < boxes < len(dataset):
        lines.append(f"{dataset.split}: {len(dataset) - boxes} of {len(dataset)} images have no box, which box metrics "
                     f"leave out; {negatives} of them are said to hold no object")  # fmt: skip
    if 0 < masks < len(dataset):
        lines.append(f"{dataset.split}: {len(dataset) - masks} of {len(dataset)} images have no mask, which pixel "
                     "metrics leave out")  # fmt: skip
    if dataset.multi_label and (lacking := sum(sample.truth is None for sample in dataset)):
        lines.append(f"{dataset.split}: {lacking} of {len(dataset)} images have no label map, and can't be scored")
    return lines


@dataclass(frozen=True)
class _Look:
    """Findings about a file: its size as stored, whether an EXIF tag turns it, what is wrong with it or its mask,
    whether its label map holds none of its classes, and what is odd about its mask.
    """

    size: tuple[int, int] | None = None
    turned: bool = False
    problem: str | None = None
    mask_problem: str | None = None
    of_other_classes: bool = False
    mask_doubt: str | None = None


def look_at_images(
    dataset: Dataset, decode: Decode, workers: int, notes: list[str]
) -> tuple[dict[str, tuple[int, int]], list[str], list[str]]:
    """Sizes by image id, ids of images that an EXIF tag turns, and the problems of files that are missing or can't be
    decoded, and of label maps that can't be scored; masks of no use are notes.
    """
    if decode == "none":
        return {}, [], []
    look: Callable[[Sample], _Look] = _read_header
    if decode == "all":
        look = partial(_decode, mask_over=dataset.mask_over, num_classes=len(dataset.class_names))
    with pool_of(max(1, workers)) as pool:
        found: Iterable[_Look] = pool.map(look, dataset.samples, chunksize=32)
        looks = list(bar(found, total=len(dataset), desc=f"looking at {dataset.split}"))
    seen = {sample.image_id: each for sample, each in zip(dataset.samples, looks, strict=True)}
    _note_masks(dataset, seen, notes)
    sizes = {image_id: each.size for image_id, each in seen.items() if each.size}
    turned = [image_id for image_id, each in seen.items() if each.turned]
    of_masks = dataset.multi_label  # a segmentation's label map is its truth
    problems = [text for each in looks for text in (each.problem, each.mask_problem if of_masks else None) if text]
    return sizes, turned, problems


def _note_masks(dataset: Dataset, seen: Mapping[str, _Look], notes: list[str]) -> None:
    """Note masks that are odd, of other classes than their images, or of no use, where there are many of them."""
    odd: dict[str, list[str]] = {}
    for image_id, look in seen.items():
        if look.mask_doubt:
            odd.setdefault(look.mask_doubt, []).append(image_id)
    for what, image_ids in odd.items():
        if len(image_ids) > _ODD_MASKS[what] * len(dataset):
            have = number_of(len(image_ids), "image has", "images have")
            notes.append(f"{dataset.split}: {have} {what}: {some(image_ids, 1)}")
    strange = [image_id for image_id, look in seen.items() if look.of_other_classes]
    if len(strange) > MANY_STRANGE * len(dataset):
        images = number_of(len(strange), "image", "images")
        notes.append(f"{dataset.split}: the label maps of {images} hold none of the classes that the images are of, "
                     f"{some(strange, 1)}; 0 is background, then come the classes, {IGNORE} is not "
                     "counted")  # fmt: skip
    masks = [] if dataset.multi_label else [look.mask_problem for look in seen.values() if look.mask_problem]
    if masks:
        have = number_of(len(masks), "image has a mask", "images have masks")
        notes.append(f"{dataset.split}: {have} that pixel metrics leave out, the first because of {masks[0]}")


def _decode(sample: Sample, mask_over: int, num_classes: int) -> _Look:
    try:
        height, width = read_rgb(sample.path).shape[:2]
        turned = is_turned(sample.path)
    except ImageError as problem:
        return _Look(problem=str(problem))
    doubt = None
    try:
        labels = np.array(sample.labels) + 1
        other = sample.truth is not None and not np.isin(labels, true_label_map(sample, num_classes)).any()
        if sample.masks:
            frame = Frame.squash(sample.declared_size or (width, height))
            doubt = _mask_doubt(object_and_ignore(sample, frame, mask_over)[0], sample, frame)
    except UserError as problem:
        return _Look((width, height), turned, mask_problem=str(problem))
    return _Look((width, height), turned, of_other_classes=other, mask_doubt=doubt)


_EMPTY, _OUTSIDE, _CORNERS = (
    "masks without an object",
    "most of their mask's object outside their boxes",
    "an object in all four corners of their mask, as inverted masks have",
)
_ODD_MASKS = {_EMPTY: 0.0, _OUTSIDE: MANY_STRANGE, _CORNERS: 0.5}
"""Oddities of a mask, and the share of images that may have one before it is said."""


def _mask_doubt(mask: np.ndarray, sample: Sample, frame: Frame) -> str | None:
    """Name the oddity of an object's pixels (H, W) in a frame; None where there is none."""
    if not mask.any():
        return _EMPTY
    if not len(sample.boxes):
        return _CORNERS if mask[[0, 0, -1, -1], [0, -1, 0, -1]].all() else None
    inside = np.zeros_like(mask)
    for x0, y0, x1, y1 in frame.clip(frame.to_frame(sample.boxes)).round().astype(int):
        inside[y0:y1, x0:x1] = True
    return _OUTSIDE if 2 * (mask & inside).sum() < mask.sum() else None


def _read_header(sample: Sample) -> _Look:
    try:
        return _Look(read_size(sample.path), is_turned(sample.path))
    except ImageError as problem:
        return _Look(problem=str(problem))


def check_turned(
    dataset: Dataset, sizes: dict[str, tuple[int, int]], turned: Sequence[str], notes: list[str]
) -> list[str]:
    """A note of the images that an EXIF tag turns, and a problem where boxes were drawn on the turned picture: one
    sticks out of the picture as stored, and all fit the picture on its side.
    """
    if not turned:
        return []
    notes.append(
        f"{dataset.split}: {len(turned)} of {len(dataset)} images have an EXIF tag that turns them in viewers, "
        f"{turned[0]} among them; they are read as stored, and boxes are pixels of the stored picture"
    )
    samples, problems = {sample.image_id: sample for sample in dataset}, []
    for image_id in turned:
        (width, height), sample = sizes[image_id], samples[image_id]
        boxes = sample.boxes
        as_stored, as_turned = ((boxes[:, 2:] <= room).all() for room in ((width, height), (height, width)))
        if as_turned and not as_stored:
            problems.append(
                f"{sample.path}: its boxes fit the picture as its EXIF tag turns it, not the {width} x {height} pixels "
                "stored; save the picture turned, without the tag"
            )
    return problems


def check_boxes(dataset: Dataset, sizes: dict[str, tuple[int, int]], notes: list[str]) -> list[str]:
    """Boxes that are empty, inside out, or wholly outside their image; boxes that stick out a little are noted, and
    what is odd about all of them.
    """
    problems, outside = [], 0
    for sample in dataset:
        found = sizes.get(sample.image_id, sample.declared_size)
        if sample.declared_size is not None and found is not None and sample.declared_size != found:
            problems.append(f"{sample.path}: {found[0]} x {found[1]} pixels; its annotations say "
                            f"{sample.declared_size[0]} x {sample.declared_size[1]}")  # fmt: skip
        for box in sample.boxes:
            text = " ".join(f"{value:g}" for value in box)
            if box[0] >= box[2] or box[1] >= box[3]:
                problems.append(f"{sample.path}: the box {text} is empty or inside out")
            elif sample.image_id in sizes:
                width, height = sizes[sample.image_id]
                if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
                    problems.append(f"{sample.path}: the box {text} lies outside its {width} x {height} pixels")
                elif box.min() < 0 or box[2] > width or box[3] > height:
                    outside += 1
    if outside:
        stick = number_of(outside, "box sticks", "boxes stick")
        notes.append(f"{dataset.split}: {stick} out of the image; protocols clip, or don't, as released")
    boxed = [sample for sample in dataset if len(sample.boxes) and sample.image_id in sizes]
    if boxed:
        rooms = [sample.declared_size or sizes[sample.image_id] for sample in boxed]
        odd = doubts([sample.image_id for sample in boxed], [sample.boxes for sample in boxed], rooms)
        notes.extend(f"{dataset.split}: {text}" for text in odd)
    return problems
